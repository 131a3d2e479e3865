"""The ``mmx`` command: one subcommand per file, one line per mistake, no traceback for either.

A subcommand is a dataclass whose fields are its options and whose ``run`` does the work; adding
one is adding its class to :data:`COMMANDS`.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import tyro

from mmx_jax.cli.audit import Audit
from mmx_jax.cli.certify import Certify
from mmx_jax.cli.console import multiply_exactly, use_compilation_cache
from mmx_jax.cli.explain import Explain
from mmx_jax.cli.export import Export
from mmx_jax.cli.train import Train
from mmx_jax.errors import MmxError

__all__ = ["COMMANDS", "Command", "interrupt", "main"]


class Command(Protocol):
    """The options of a subcommand, and its work."""

    def run(self) -> None:
        """Does the work; raises :class:`~mmx_jax.errors.MmxError` for a person's mistake."""
        ...


COMMANDS = (
    Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Certify, tyro.conf.subcommand("certify")]
    | Annotated[Explain, tyro.conf.subcommand("explain")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Export, tyro.conf.subcommand("export")]
)

_ABOUT = "Explain a multimodal model and judge the explanations."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    Returns:
      0 when it ran, 2 when something a person gave can't be used, 130 after Ctrl-C.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    if argv is None:
        signal.signal(signal.SIGINT, interrupt)
    try:
        command: Command = tyro.cli(
            COMMANDS,  # pyright: ignore[reportArgumentType]
            prog="mmx",
            description=_ABOUT,
            args=None if argv is None else list(argv),
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
        use_compilation_cache()
        multiply_exactly()
        command.run()
    except MmxError as error:
        print("mmx: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"mmx: {error.strerror or error}{where}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mmx: interrupted, no result was written", file=sys.stderr)
        if argv is None:
            # a thread that compiles can't be stopped, and leaving in good order waits for it
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(130)
        return 130
    return 0


def interrupt(number: int, frame: Any) -> None:
    """Ctrl-C; a moment later where Python drops exceptions: garbage collection, ``__del__``."""
    while frame is not None:
        if frame.f_code.co_name in ("_xla_gc_callback", "__del__"):
            threading.Timer(0.05, signal.raise_signal, [number]).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
