"""A work directory of small results: each appears whole or not at all, and none is made twice.

Killed at any moment and started again, a run goes on behind the last whole file; what it ends with
is a pure function of the files, so it is the same bit for bit.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmx_jax.errors import InputError
from mmx_jax.runs import plain, read_json, write_json

__all__ = ["WorkDirectory"]


class WorkDirectory:
    """Results by a path of names, in a directory that belongs to one configuration.

    Args:
      path: an absent or empty directory, or one that an earlier run with this configuration left.
      config: plain values; kept in ``config.json``.

    Raises:
      InputError: a directory of something else, or of another configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any]):
        self.path = Path(path).expanduser().absolute()
        known, config = self.path / "config.json", plain(config)
        if self.path.exists() and not self.path.is_dir():
            raise InputError("out", f"{self.path} is a file", "choose a directory")
        if known.exists():
            found = read_json(known)
            changed = sorted(k for k in config | found if config.get(k) != found.get(k))
            if changed:
                raise InputError(
                    "out",
                    f"{self.path} holds a run with another {', '.join(changed)}",
                    "repeat its options to go on with it, or choose another directory",
                )
        elif self.path.exists() and any(self.path.iterdir()):
            raise InputError("out", f"{self.path} is not empty", "choose another directory")
        self.path.mkdir(parents=True, exist_ok=True)
        self.write("config.json", config)

    def write(self, name: str, tree: Any) -> None:
        """Writes JSON under a temporary name and renames it when it is whole."""
        self.write_with(name, lambda path: write_json(path, tree))

    def write_with(self, name: str, make: Callable[[Path], Any]) -> None:
        """The same for what ``make`` writes to the path that it is given."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # several processes may work on one directory
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        make(partial)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.rename(target)

    def drop(self, name: str) -> None:
        """Removes a result if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Whether this result is there."""
        return (self.path / name).is_file()

    def read(self, name: str) -> Any:
        """A result that is there."""
        return read_json(self.path / name)
