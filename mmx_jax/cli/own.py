"""The user's own model and data: ``--model file.py:build`` and ``--data file.npz``."""

import importlib.util
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax.checks import check_inputs, check_modalities
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.modality import Modality
from mmx_jax.model import as_model
from mmx_jax.typing import Inputs, Model

__all__ = ["load_data", "load_model", "read_npz"]

UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError)
"""What a damaged, odd or encrypted archive raises."""

TARGET = "target"
"""The array of an ``npz`` that holds the output to be explained for each example."""


def load_model(spec: str, link: str | None = None) -> tuple[Model, dict[str, Modality]]:
    """Runs ``build()`` of ``file.py:build`` and checks what it returns.

    Args:
      spec: a Python file and the name of a function in it without arguments that returns
        ``(model, modalities)``; the name is ``build`` where none is given.
      link: ``identity``, ``softmax`` or ``log-odds``; the model's own if None.

    Raises:
      InputError: a missing file or attribute, code that raises, or another kind of result.
    """
    name, _, attribute = spec.partition(".py:") if ".py:" in spec else (spec, "", "build")
    path = Path(name + (".py" if ".py:" in spec else "")).expanduser()
    if not path.is_file():
        raise InputError("model", f"{str(path)!r} is not a file", "give file.py:build")
    built = _attempt(spec, _member(path, attribute))
    if not isinstance(built, tuple) or len(built) != 2 or not isinstance(built[1], dict):
        raise InputError(
            "model", f"{spec} returns {type(built).__name__}", "return (model, modalities)"
        )
    model, modalities = built
    if not all(isinstance(m, Modality) for m in modalities.values()):
        raise InputError(
            "model", f"{spec} returns modalities that are no Modality", "use mmx_jax.Modality"
        )
    check_modalities(modalities)
    if TARGET in modalities:
        raise InputError("modalities", f"has the name {TARGET!r}", "the data file uses it")
    return as_model(model, link), modalities


def _member(path: Path, attribute: str) -> Any:
    """A function of a Python file that is imported under a name of its own."""
    module_spec = importlib.util.spec_from_file_location(f"_mmx_own_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise InputError("model", f"{str(path)!r} is no Python file", "give file.py:build")
    module = importlib.util.module_from_spec(module_spec)
    loader = module_spec.loader
    sys.modules[module_spec.name] = module  # dataclasses and pickles look it up there
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        _attempt(str(path), lambda: loader.exec_module(module))
    finally:
        sys.path.pop(0)
    if not hasattr(module, attribute):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"model {path.name} attribute", attribute, known)
    found = getattr(module, attribute)
    if not callable(found):
        raise InputError(
            "model", f"{attribute} is {type(found).__name__}", "name a function without arguments"
        )
    return found


def _attempt(what: str, call: Any) -> Any:
    """Calls the user's code; what it raises becomes one line that says where."""
    try:
        return call()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            "model",
            f"{what} raised {type(error).__name__}: {first_line(error)}",
            "run the file by itself",
        ) from error


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of an error's message, which may be pages long."""
    line = next(iter(str(error).strip().splitlines()), "")
    return line if len(line) <= most else line[: most - 1] + "…"


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an ``npz`` file; pickled objects are refused.

    Raises:
      InputError: no file, not an ``npz``, or one with pickled or unreadable entries.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError("data", f"{str(path)!r} is not a file", "give an npz file")
    if not zipfile.is_zipfile(path):
        raise InputError("data", f"{str(path)!r} is not an npz file", "write it with numpy.savez")
    arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                arrays[name] = _readable(path, name, file)
    except UNREADABLE as error:
        raise InputError(
            "data", f"{str(path)!r} can't be read ({error})", "write it with numpy.savez"
        ) from error
    return arrays


def _readable(path: Path, name: str, file: Any) -> np.ndarray:
    try:
        array = file[name]
    except ValueError as error:
        raise InputError(
            "data",
            f"{path.name!r} holds {name!r} as a pickled object, which could run code",
            "save plain arrays of numbers",
        ) from error
    if not isinstance(array, np.ndarray):
        raise InputError("data", f"{path.name!r} holds {name!r}, no array", "save plain arrays")
    return array


def load_data(
    path: str | Path, modalities: dict[str, Modality]
) -> tuple[Inputs, np.ndarray | None]:
    """The examples of an ``npz``: one array per modality, nested names with ``/``.

    Args:
      path: for example with the arrays ``image [n, 8, 8]``, ``graph/features [n, 5, 3]`` and
        ``graph/adjacency [n, 5, 5]``, and optionally ``target [n]``.
      modalities: what the data must fit.

    Returns:
      inputs with a leading axis of examples, and the targets or None.

    Raises:
      InputError: see :func:`read_npz` and :func:`mmx_jax.check_inputs`; arrays of different length
        or without examples.
    """
    arrays = read_npz(path)
    target = arrays.pop(TARGET, None)
    inputs: Inputs = {}
    for name in sorted(arrays):
        _insert(inputs, name.split("/"), _cast(name, arrays[name]))
    lengths = {name: a.shape[0] if a.ndim else -1 for name, a in arrays.items()}
    if len(set(lengths.values())) > 1 or -1 in lengths.values():
        told = ", ".join(f"{n} {'none' if k < 0 else k}" for n, k in sorted(lengths.items()))
        raise InputError("data", f"has different numbers of examples ({told})", "use one number")
    check_inputs(modalities, inputs, batched=True)
    count = next(iter(lengths.values()))
    if count == 0:
        raise InputError("data", "holds zero examples", "give some")
    return inputs, None if target is None else _targets(target, count)


def _insert(tree: dict[str, Any], path: list[str], leaf: np.ndarray) -> None:
    """Puts an array where its name with slashes points."""
    *parents, last = path
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise InputError("data", f"holds {part!r} and names below it", "use one of both")
    if last in tree:
        raise InputError("data", f"holds {last!r} and names below it", "use one of both")
    tree[last] = leaf


def _cast(name: str, array: np.ndarray) -> np.ndarray:
    """The array at JAX's default precision."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"inputs[{name!r}]", f"has dtype {array.dtype}", "use numbers")
    if array.dtype.kind == "f":
        return array.astype(jnp.result_type(float))
    if array.dtype.kind in "iu" and array.size:
        return _integers(f"inputs[{name!r}]", array, jnp.result_type(int), "use int32")
    return array


def _integers(what: str, array: np.ndarray, dtype: Any, remedy: str) -> np.ndarray:
    """The array as ``dtype``, refused where a number would wrap."""
    limit = np.iinfo(dtype)
    if array.size and (array.min() < limit.min or array.max() > limit.max):
        raise InputError(what, "holds integers out of range", remedy)
    return array.astype(dtype)


def _targets(target: np.ndarray, count: int) -> np.ndarray:
    if target.shape != (count,):
        raise InputError("target", f"has shape {target.shape}", f"give ({count},)")
    if target.dtype.kind not in "iu":
        raise InputError("target", f"has dtype {target.dtype}", "use integers")
    return _integers("target", target, np.int32, "use the numbers of outputs")


def first_example(inputs: Inputs) -> Inputs:
    """The first example of a batch."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), inputs)
