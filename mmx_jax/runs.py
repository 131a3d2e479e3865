"""Result directories that are whole or absent, and JSON that reruns reproduce bit by bit.

A result directory is written to a temporary sibling and renamed when it is complete, so a crash or
Ctrl-C leaves nothing that looks like a result. Times never enter ``results.json``.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmx_jax.errors import InputError

__all__ = [
    "check_output",
    "free_name",
    "plain",
    "read_json",
    "result_directory",
    "write_json",
    "write_text",
]

DIGITS = 6
"""Significant digits of a number in ``results.json``: float32 holds seven."""


def check_output(path: str | Path) -> Path:
    """The path of a result directory that can be written, checked before any work is done.

    Raises:
      InputError: a directory that isn't empty, a file, or a place that can't be written.
    """
    target = Path(path).expanduser().absolute()
    try:
        if target.is_dir():
            if any(target.iterdir()):
                raise InputError("out", f"{target} is not empty", "choose another directory")
        elif target.exists():
            raise InputError("out", f"{target} is a file", "choose a directory")
        parent = target.parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            "out", f"{target} can't be written ({reason})", "choose another directory"
        ) from None
    return target


def free_name(path: str | Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, ... that is absent or an empty directory.

    For default names only: a directory that a person named is checked, never changed.
    """
    path, count = Path(path), 1
    while True:
        candidate = path if count == 1 else path.with_name(f"{path.name}-{count}")
        if not candidate.exists() or (candidate.is_dir() and not any(candidate.iterdir())):
            return candidate
        count += 1


@contextmanager
def result_directory(path: str | Path) -> Iterator[Path]:
    """A context that yields a temporary sibling of ``path`` and renames it when the block is done.

    Any exception, also a ``KeyboardInterrupt``, removes the temporary directory; a killed process
    leaves a hidden ``.name.partial-...`` that can't be taken for a result.

    Raises:
      InputError: see :func:`check_output`.
    """
    target = check_output(path)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        partial.chmod(0o777 & ~_umask())  # mkdtemp makes it private
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                _flush(file)
        if target.is_dir():
            target.rmdir()  # an empty directory stands in the way on some systems
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def plain(tree: Any) -> Any:
    """A tree of arrays, NumPy scalars and containers as plain JSON values.

    Real numbers are rounded to six significant digits. ``-0.0`` becomes ``0.0``.

    Raises:
      ValueError: a number that is not finite; write ``None`` and a reason instead.

    >>> plain({"a": np.float32(0.1), "b": np.arange(2)})
    {'a': 0.1, 'b': [0, 1]}
    """
    if tree is None or isinstance(tree, str | bool | np.bool_):
        return bool(tree) if isinstance(tree, np.bool_) else tree
    if isinstance(tree, dict):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    if isinstance(tree, int | np.integer):
        return int(tree)
    if isinstance(tree, float | np.floating):
        number = float(tree)
        if not math.isfinite(number):
            raise ValueError(f"{number} can't be written: give None and a reason")
        return float(f"{number:.{DIGITS}g}") + 0.0
    if hasattr(tree, "tolist"):
        return plain(np.asarray(tree).tolist())
    raise ValueError(f"{type(tree).__name__} can't be written as JSON")


def write_json(path: str | Path, tree: Any) -> None:
    """Writes a tree with sorted keys: the same values give the same bytes."""
    text = json.dumps(plain(tree), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8; a lone surrogate, as of an odd file name, becomes JSON's escape of it."""
    Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
