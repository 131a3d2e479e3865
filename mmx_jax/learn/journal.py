"""The directory of a run: its configuration, its metrics line by line, and its checkpoints.

``config.json`` is written first and compared on resume, ``metrics.jsonl`` gets a line per block,
``last/`` and ``best/`` hold checkpoints, and ``COMPLETE`` comes last.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from mmx_jax.errors import InputError
from mmx_jax.learn.checkpoint import BEST, LAST, Checkpoints
from mmx_jax.learn.settings import MAY_CHANGE

__all__ = ["Journal", "made_with", "read_config"]

CONFIG, METRICS, COMPLETE = "config.json", "metrics.jsonl", "COMPLETE"


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of a run.

    Raises:
      InputError: a directory that holds no run, or a configuration that can't be read.
    """
    file = Path(folder) / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # of JSON or of its letters
        raise InputError(
            "directory", f"{folder} holds no run ({type(error).__name__})", "train one first"
        ) from error
    if not isinstance(config, dict):
        raise InputError("directory", f"{file} is no configuration of a run", "train one first")
    return config


def made_with() -> dict[str, str]:
    """Versions of what a run's numbers depend on; kept with it, not compared on resume."""
    packages = ("mmx_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


class Journal:
    """Writes what a run does; a context that waits for pending checkpoints.

    Of several hosts only the first writes; the others read when a run is resumed.

    Args:
      folder: of the run; nothing is written anywhere if None.
      config: what decides the run.
      resume: continue the run in the folder.

    Raises:
      InputError: a folder that can't be written or holds another run; on resume one that holds
        none, or whose configuration differs in more than :data:`MAY_CHANGE`.
    """

    def __init__(self, folder: str | Path | None, config: dict[str, Any], resume: bool):
        self.folder = None if folder is None else Path(folder)
        self.resume = resume
        self._checkpoints: Checkpoints | None = None
        self._writes = self.folder is not None and jax.process_index() == 0
        if self.folder is None:
            return
        plain = json.loads(json.dumps(config))
        if resume:
            _compare(read_config(self.folder), plain)
        elif self._writes:
            _create(self.folder, plain)
        if resume or self._writes:
            self._checkpoints = Checkpoints(self.folder)

    def __enter__(self) -> "Journal":
        """Itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Waits until every checkpoint is on disk; marks the run as complete unless it failed."""
        if self._checkpoints is not None and self.folder is not None:
            self._checkpoints.__exit__(*error)
            if error[0] is None and self._writes:
                (self.folder / COMPLETE).write_text("")

    @property
    def kept(self) -> str:
        """Where the last good state is, as the end of a sentence about an error."""
        if self._checkpoints is None or not self._checkpoints.steps(LAST):
            return ""
        return f"; the last good checkpoint is in {self.folder}"

    def restore(
        self, state: PyTree, average: PyTree
    ) -> tuple[PyTree, PyTree, dict[str, Any], list[dict[str, Any]]] | None:
        """The last state, the best average, what was noted, and the rows so far; None at the start.

        Args:
          state: like the state that was saved.
          average: like its averaged weights.
        """
        if self._checkpoints is None or not self.resume or not self._checkpoints.steps(LAST):
            return None
        step, last, noted = self._checkpoints.restore(LAST, state)
        best = self._checkpoints.restore(BEST, average)[1]
        last, best = jax.tree.map(jnp.asarray, (last, best))
        return last, best, noted, self._rows(step)

    def write(
        self, row: dict[str, Any], state: PyTree, best: PyTree | None, noted: dict[str, Any]
    ) -> None:
        """Saves a state, the averaged weights where they are the best, and a line of metrics."""
        if self._checkpoints is None or self.folder is None or not self._writes:
            return
        if best is not None:
            self._checkpoints.save(BEST, row["step"], best, noted)
            # killed between the two, a run would go on with an older best than was noted
            self._checkpoints.wait(BEST)
        self._checkpoints.save(LAST, row["step"], state, noted)
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _rows(self, step: int) -> list[dict[str, Any]]:
        """The rows up to a step; later ones, of a run that was killed, are cut off."""
        assert self.folder is not None
        file, rows = self.folder / METRICS, []
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break  # the process was killed while writing it
            if row["step"] <= step:
                rows.append(row)
        if self._writes:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return rows


def _create(folder: Path, config: dict[str, Any]) -> None:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError("out", f"{folder} is not empty", "resume it or choose another")
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(config, indent=1, sort_keys=True)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(
            "out", f"{folder} can't be written ({error.strerror})", "choose another directory"
        ) from error


def _compare(old: Any, new: Any) -> None:
    before, now = _flat(old), _flat(new)
    # what a person chose comes before what follows from it
    for path in sorted(set(before) | set(now), key=lambda p: (p.startswith("about."), p)):
        if path.startswith("made_with."):
            continue
        if before.get(path) != now.get(path) and path.split(".")[-1] not in MAY_CHANGE:
            raise InputError(
                f"resume: {path}",
                f"is {now.get(path)!r} and was {before.get(path)!r}",
                f"keep it; only {', '.join(MAY_CHANGE)} may change",
            )


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    out = {}
    for name, leaf in tree.items():
        out |= _flat(leaf, f"{path}.{name}" if path else name)
    return out
