"""How data of each kind falls into units: what the constructors of a modality fill in.

Each function checks its arguments and returns the fields of :class:`mmx_jax.Modality`.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmx_jax import moves as mv
from mmx_jax.errors import InputError

__all__ = ["columns", "edges", "frames", "nodes", "patches", "token_ids", "tokens"]


def patches(shape: Sequence[int], patch: int | tuple[int, int]) -> dict[str, Any]:
    """:meth:`mmx_jax.Modality.patches`."""
    height, width = (patch, patch) if isinstance(patch, int) else patch
    shape = tuple(shape)
    if len(shape) not in (2, 3):
        raise InputError(
            "shape", f"is {shape}", "give (height, width) or (height, width, channels)"
        )
    if height < 1 or width < 1 or shape[0] % height or shape[1] % width:
        raise InputError(
            "patch", f"is {(height, width)} for an image {shape}", "use divisors of its sides"
        )
    rows, columns = shape[0] // height, shape[1] // width
    grid = np.arange(rows * columns).reshape(rows, columns)
    groups = np.kron(grid, np.ones((height, width), int)).reshape(
        shape[:2] + (1,) * (len(shape) - 2)
    )
    return dict(
        groups=groups,
        reference=jnp.zeros(shape),
        kind="patch",
        layout=(rows, columns),
        moves=(mv.Noise(), mv.Offset(), mv.Gain(), mv.Roll((rows, columns), (height, width))),
    )


def tokens(length: int, dim: int) -> dict[str, Any]:
    """:meth:`mmx_jax.Modality.tokens`."""
    return _rows(length, dim, "token", (mv.Noise(), mv.Gain()))


def frames(length: int, dim: int) -> dict[str, Any]:
    """:meth:`mmx_jax.Modality.frames`."""
    return _rows(length, dim, "frame", (mv.Noise(), mv.Gain(), mv.Roll((length,), (1,))))


def _rows(length: int, dim: int, kind: str, moves: tuple[mv.Move, ...]) -> dict[str, Any]:
    _positive(length=length, dim=dim)
    return dict(
        groups=np.arange(length)[:, None],
        reference=jnp.zeros((length, dim)),
        kind=kind,
        layout=(length,),
        moves=moves,
    )


def token_ids(
    length: int,
    vocabulary: int | Sequence[str],
    mask: int = 0,
    synonyms: Sequence[int] | None = None,
) -> dict[str, Any]:
    """:meth:`mmx_jax.Modality.token_ids`."""
    words = () if isinstance(vocabulary, int) else tuple(vocabulary)
    size = vocabulary if isinstance(vocabulary, int) else len(words)
    _positive(length=length, vocabulary=size)
    if not 0 <= mask < size:
        raise InputError("mask", f"is {mask}", f"use an id of the vocabulary, 0 to {size - 1}")
    if synonyms is not None and (len(synonyms) != size or not all(0 <= s < size for s in synonyms)):
        raise InputError("synonyms", "does not map the vocabulary to itself", f"give {size} ids")
    return dict(
        groups=np.arange(length),
        reference=jnp.full((length,), mask, jnp.int32),
        kind="token id",
        reference_kind="given",
        layout=(length, size),
        labels=words,
        moves=() if synonyms is None else (mv.Synonyms(tuple(int(s) for s in synonyms)),),
    )


def nodes(count: int, dim: int) -> dict[str, Any]:
    """:meth:`mmx_jax.Modality.nodes`."""
    _positive(count=count, dim=dim)
    node = np.arange(count)
    return dict(
        groups={"features": (node[:, None],), "adjacency": (node[:, None], node[None, :])},
        reference={"features": jnp.zeros((count, dim)), "adjacency": jnp.zeros((count, count))},
        kind="node",
        layout=(count,),
        moves=(mv.Noise(), mv.Relabel()),
    )


def edges(count: int, nodes: int | None = None, dim: int = 1) -> dict[str, Any]:
    """:meth:`mmx_jax.Modality.edges`."""
    _positive(count=count, dim=dim)
    if nodes is None:
        return dict(
            groups=np.arange(count),
            reference=jnp.zeros((count,)),
            kind="edge",
            layout=(),
            moves=(mv.Noise(),),
        )
    table = np.full((nodes, nodes), -1)
    upper = np.triu_indices(nodes, 1)
    off = np.nonzero(~np.eye(nodes, dtype=bool))
    if count == len(upper[0]):
        table[upper] = np.arange(count)
        table.T[upper] = np.arange(count)
        ends = zip(*upper, strict=True)
    elif count == len(off[0]):
        table[off] = np.arange(count)
        ends = zip(*off, strict=True)
    else:
        raise InputError(
            "count",
            f"is {count} for {nodes} nodes",
            f"use {len(upper[0])} (undirected) or {len(off[0])}",
        )
    return dict(
        groups={"features": (np.full((1, 1), -1),), "adjacency": (table,)},
        reference={"features": jnp.zeros((nodes, dim)), "adjacency": jnp.zeros((nodes, nodes))},
        kind="edge",
        layout=tuple((int(i), int(j)) for i, j in ends),
        moves=(mv.Noise(),),
    )


def columns(count: int, names: Sequence[str] = ()) -> dict[str, Any]:
    """:meth:`mmx_jax.Modality.columns`."""
    _positive(count=count)
    if names and len(names) != count:
        raise InputError("names", f"has {len(names)} entries for {count} columns", "give one each")
    return dict(
        groups=np.arange(count),
        reference=jnp.zeros((count,)),
        kind="column",
        layout=(count,),
        labels=tuple(names),
        moves=(mv.Noise(),),
    )


def _positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise InputError(name, f"is {size}", "use a positive number")
