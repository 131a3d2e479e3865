"""What a command shows while it works: stages, progress, and compile time named as such."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import jax
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
)

__all__ = [
    "Advance",
    "Stage",
    "Terminal",
    "compile_quickly",
    "compile_seconds",
    "use_compilation_cache",
]

_COMPILING = (
    "/jax/core/compile/backend_compile_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
)


@contextmanager
def compile_seconds() -> Iterator[list[float]]:
    """A context whose list collects the seconds of every lowering and XLA compilation in it."""
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del kwargs
        if event in _COMPILING:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def use_compilation_cache() -> Path | None:
    """Switches on JAX's persistent cache in the user's cache directory; the commands do this.

    A directory that the user chose (``JAX_COMPILATION_CACHE_DIR``) is kept. Returns the directory,
    or None where there is none to be written.
    """
    chosen = getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or (
        "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    )
    path = Path(base).expanduser() / "mmx_jax" / "xla"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return path


def multiply_exactly() -> None:
    """Has float32 products computed in full, where the user has not chosen otherwise.

    Some GPUs keep 10 bits of their factors by default; a CPU computes the same either way. A choice
    (``JAX_DEFAULT_MATMUL_PRECISION``) is kept.
    """
    if getattr(jax.config, "jax_default_matmul_precision") is None:  # noqa: B009
        jax.config.update("jax_default_matmul_precision", "highest")


def compile_quickly(most: bool = True) -> None:
    """Has XLA optimise less; works until JAX first computes.

    Args:
      most: for runs that hardly compute: half the time to compile, programs up to three times
        slower on a CPU. Otherwise a third less time to compile, programs a third slower.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_backend_optimization_level" in flags:
        return
    quick = ["--xla_backend_optimization_level=1"]
    if most:
        quick = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
        if version("jaxlib").startswith("0.10."):  # later versions stop at flags they don't know
            quick.append("--xla_cpu_use_fusion_emitters=false")
        quick.append("--xla_cpu_parallel_codegen_split_count=1")
    os.environ["XLA_FLAGS"] = " ".join([flags, *quick]).strip()


class Advance:
    """The ``progress`` callback of a stage: moves its bar, says what is going on."""

    def __init__(self, bar: Progress, task: TaskID, compiling: list[float]):
        self._bar, self._task, self._compiling = bar, task, compiling

    def __call__(self, done: int, total: int, seconds: float) -> None:
        """Moves the bar, as :func:`mmx_jax.map_examples` and training do."""
        del seconds
        self._bar.update(self._task, completed=done, total=total)
        self.say("")

    def say(self, what: str) -> None:
        """Shows what is being worked on, and the time spent compiling so far."""
        spent = sum(self._compiling)
        note = f"compiled {spent:.0f} s" if spent >= 1 else ""
        self._bar.update(self._task, note=", ".join(filter(None, (escape(what), note))))


@dataclass
class Stage:
    """One piece of work: its name, its seconds, and how many of them went into compiling."""

    name: str
    seconds: float = 0.0
    compiling: float = 0.0


@dataclass
class Terminal:
    """Prints stages as they run and keeps their times for ``timings.json``."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Advance]:
        """A context that shows a spinner or a bar, then one line with the time it took.

        Until the first chunk of work comes back it is said to be compiling.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        start = time.monotonic()
        silent = not self.console.is_terminal  # a file gets the finished stages alone
        bar = Progress(*columns, console=self.console, transient=True, disable=silent)
        with compile_seconds() as compiling, bar:
            yield Advance(bar, bar.add_task(name, total=None, note="compiling"), compiling)
        stage = Stage(name, time.monotonic() - start, sum(compiling))
        self.stages.append(stage)
        # programs compile side by side, so their seconds may exceed those of the stage
        note = f", {stage.compiling:.1f} s of compiling" if stage.compiling > 0.05 else ""
        self.console.print(f"[dim]{stage.seconds:6.1f} s[/]  {name}[dim]{note}[/]")

    def timings(self) -> dict[str, object]:
        """Seconds per stage, for ``timings.json``."""
        return {
            "stages": [
                {"name": s.name, "seconds": round(s.seconds, 3), "compiling": round(s.compiling, 3)}
                for s in self.stages
            ],
            "seconds": round(sum(s.seconds for s in self.stages), 3),
            "compiling": round(sum(s.compiling for s in self.stages), 3),
        }
