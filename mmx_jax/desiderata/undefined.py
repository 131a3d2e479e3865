"""Numbers that are undefined, and why: null always comes with a reason.

While results are put together an undefined leaf is an :class:`Undefined`. :func:`settle` turns a
finished tree into JSON values and one flat map of reasons, ``{"granger.image<-note.spearman":
"the scores never change"}``: a leaf is ``None`` if and only if its dotted path is in the map.
"""

import dataclasses
import math
from typing import Any

__all__ = ["Undefined", "number", "settle"]


@dataclasses.dataclass(frozen=True)
class Undefined:
    """A number that does not exist.

    Attributes:
      reason: why, in words for a reader of the report.
    """

    reason: str


def number(value: Any, reason: str) -> float | Undefined:
    """A finite float, or the reason why there is none."""
    value = float(value)
    return value if math.isfinite(value) else Undefined(reason)


def settle(tree: Any, path: str = "") -> tuple[Any, dict[str, str]]:
    """Replaces every :class:`Undefined` by ``None`` and collects the reasons by dotted path.

    Raises:
      ValueError: a float that is not finite, which would be a NaN that passes silently.

    >>> settle({"a": {"b": Undefined("no inputs"), "c": 1.0}})
    ({'a': {'b': None, 'c': 1.0}}, {'a.b': 'no inputs'})
    """
    if isinstance(tree, Undefined):
        return None, {path: tree.reason}
    if isinstance(tree, dict):
        out, reasons = {}, {}
        for key, leaf in tree.items():
            out[key], more = settle(leaf, f"{path}.{key}" if path else key)
            reasons |= more
        return out, reasons
    if isinstance(tree, list | tuple):
        rows = [settle(leaf, f"{path}.{i}") for i, leaf in enumerate(tree)]
        return [row for row, _ in rows], {k: v for _, more in rows for k, v in more.items()}
    if isinstance(tree, float) and not math.isfinite(tree):
        raise ValueError(f"{path} is {tree} without a reason")
    return tree, {}
