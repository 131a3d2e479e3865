"""Modalities: which entries of the data form a unit, and what replaces a unit that is removed.

A unit is what an explanation scores: an image patch, a token, an audio frame, a graph's node or
edge, a table's column. ``groups`` says for every entry of the data which unit gates it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from mmx_jax import layouts
from mmx_jax import moves as mv
from mmx_jax.errors import InputError
from mmx_jax.numerics import is_inexact
from mmx_jax.typing import PRNGKey, record, static

__all__ = ["Modality"]


@record
class Modality:
    """The units of one modality, and the reference that stands for their absence.

    Args:
      groups: a pytree like the data whose leaves are integer arrays that broadcast to the data's
        leaf, or tuples of such arrays: entry i is gated by the product of the gates of its units.
        -1 is never gated.
      reference: like the data; zeros if None; with ``draws > 0`` every leaf has a leading axis of
        that many draws, and values are averaged over them after the link (a marginal reference).
      units: how many units there are; the largest of ``groups`` plus one if None.
      draws: the number of reference draws; 0 for one fixed reference.
      kind: what a unit is: ``"patch"``, ``"token"``, ``"frame"``, ``"node"``, ``"edge"``,
        ``"column"`` or anything else.
      reference_kind: ``"zero"``, ``"mean"``, ``"given"`` or ``"marginal"``, named in every report.
      layout: how a picture lays the units out: the grid of patches, the endpoints of edges.
      labels: names of the units, or of the vocabulary's ids where the kind is ``"token id"``.
      moves: changes that preserve the meaning (:mod:`mmx_jax.moves`).

    Raises:
      InputError: groups that are not integers, name no unit, or exceed ``units``; a reference of
        another structure; two moves of one name.

    >>> Modality(groups=jnp.array([0, 0, 1, -1])).units
    2
    >>> Modality.patches((8, 8), 2).units, Modality.nodes(5, 3).units
    (16, 5)
    """

    groups: PyTree
    reference: PyTree = None
    units: int = static(default=None)
    draws: int = static(default=0)
    kind: str = static(default="unit")
    reference_kind: str = static(default="zero")
    layout: tuple[Any, ...] = static(default=())
    labels: tuple[str, ...] = static(default=())
    moves: tuple[mv.Move, ...] = static(default=())

    def __post_init__(self) -> None:
        """Checks what a person passed; transformations of JAX do not come here."""
        if any(isinstance(leaf, int) for leaf in jax.tree.leaves(self.groups)):
            raise InputError("groups", "is a list of numbers", "make it an array")
        names = [move.name for move in self.moves]
        if len(set(names)) < len(names) or {"ball", "path"} & set(names):
            raise InputError(
                "moves", f"are named {', '.join(names)}", "name each once, and none ball or path"
            )
        groups = jax.tree.map(_as_tuple, self.groups, is_leaf=_is_group)
        leaves = jax.tree.leaves(groups)
        if not leaves:
            raise InputError(
                "groups", "holds no array", "give an integer array per leaf of the data"
            )
        for leaf in leaves:
            if not np.issubdtype(leaf.dtype, np.integer):
                raise InputError(
                    "groups", f"has dtype {leaf.dtype}", "use integers: the unit of each entry"
                )
        highest = max(int(np.max(leaf, initial=-1)) for leaf in leaves)
        lowest = min(int(np.min(leaf, initial=0)) for leaf in leaves)
        units = highest + 1 if self.units is None else self.units
        if units < 1 or highest >= units or lowest < -1:
            raise InputError(
                "groups", f"holds {lowest} to {highest} for {units} units", "use -1 to units - 1"
            )
        reference = self.reference
        if reference is None:
            reference = jax.tree.map(lambda _: jnp.zeros(()), groups, is_leaf=_is_tuple)
        reference = jax.tree.map(jnp.asarray, reference)
        if jax.tree.structure(reference) != jax.tree.structure(groups, is_leaf=_is_tuple):
            raise InputError(
                "reference",
                f"has the structure {jax.tree.structure(reference)}",
                f"give {jax.tree.structure(groups, is_leaf=_is_tuple)}, as groups",
            )
        if self.draws < 0 or any(
            np.shape(x)[:1] != (self.draws,) for x in jax.tree.leaves(reference) if self.draws
        ):
            raise InputError(
                "reference",
                f"does not lead with {self.draws} draws",
                "stack one reference per draw",
            )
        # 32 bits in every mode of precision, so that compiled programs can be shared
        groups = jax.tree.map(lambda g: g.astype(np.int32), groups)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "reference", reference)
        object.__setattr__(self, "units", units)

    @classmethod
    def patches(cls, shape: Sequence[int], patch: int | tuple[int, int]) -> "Modality":
        """An image ``[H, W]`` or ``[H, W, C]`` cut into patches, row by row.

        Args:
          shape: of the image.
          patch: height and width of a patch; both must divide the image's.
        """
        return cls(**layouts.patches(shape, patch))

    @classmethod
    def tokens(cls, length: int, dim: int) -> "Modality":
        """Token vectors ``[length, dim]``, a unit per token."""
        return cls(**layouts.tokens(length, dim))

    @classmethod
    def frames(cls, length: int, dim: int) -> "Modality":
        """Audio or video frames ``[length, dim]``, a unit per frame."""
        return cls(**layouts.frames(length, dim))

    @classmethod
    def token_ids(
        cls,
        length: int,
        vocabulary: int | Sequence[str],
        mask: int = 0,
        synonyms: Sequence[int] | None = None,
    ) -> "Modality":
        """Integer token ids ``[length]``; a removed token becomes the id ``mask``.

        Args:
          length: tokens per example.
          vocabulary: its size, or its words (shown in reports).
          mask: the id that stands for no token.
          synonyms: for each id the id of a word of the same meaning; a semantic move if given.
        """
        return cls(**layouts.token_ids(length, vocabulary, mask, synonyms))

    @classmethod
    def nodes(cls, count: int, dim: int) -> "Modality":
        """A graph ``{"features": [count, dim], "adjacency": [count, count]}``, a unit per node.

        An edge is gated by both of its ends: removing a node removes its edges.
        """
        return cls(**layouts.nodes(count, dim))

    @classmethod
    def edges(cls, count: int, nodes: int | None = None, dim: int = 1) -> "Modality":
        """A graph's edges, a unit per edge.

        Args:
          count: how many edges. Without ``nodes`` the data is a vector ``[count]`` of weights.
          nodes: if given, the data is ``{"features": [nodes, dim], "adjacency": [nodes, nodes]}``,
            and ``count`` is ``nodes (nodes - 1) / 2`` undirected edges (i < j, row by row) or
            ``nodes (nodes - 1)`` directed ones. Features and the diagonal are never gated.
          dim: features per node.
        """
        return cls(**layouts.edges(count, nodes, dim))

    @classmethod
    def columns(cls, count: int, names: Sequence[str] = ()) -> "Modality":
        """A row of a table ``[count]``, a unit per column."""
        return cls(**layouts.columns(count, names))

    def with_reference(self, reference: PyTree) -> "Modality":
        """The same units with a reference of the user's."""
        return replace(self, reference=reference, draws=0, reference_kind="given")

    def with_mean(self, batch: PyTree) -> "Modality":
        """The mean of a batch of data (leading axis: examples) as reference; real data only."""
        if not all(is_inexact(leaf) for leaf in jax.tree.leaves(batch)):
            raise InputError(
                "batch", "holds integers, which have no mean", "use with_reference or with_marginal"
            )
        return replace(
            self,
            reference=jax.tree.map(lambda leaf: jnp.mean(leaf, 0), batch),
            draws=0,
            reference_kind="mean",
        )

    def with_marginal(self, batch: PyTree, draws: int, key: PRNGKey) -> "Modality":
        """Draws from a batch of data as reference; values are averaged over them after the link.

        Modalities ablated together take the same draw. A single donor is refused: on XOR it
        leaves 30 % of the inputs without any effect.
        """
        count = jax.tree.leaves(batch)[0].shape[0]
        if not 2 <= draws <= count:
            raise InputError(
                "draws", f"is {draws} of {count} examples", "draw at least 2, at most all"
            )
        rows = jax.random.permutation(key, count)[:draws]
        return replace(
            self,
            reference=jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], batch),
            draws=draws,
            reference_kind="marginal",
        )

    def reference_at(self, draw: int | Int[Array, ""] = 0) -> PyTree:
        """The reference, or its draw number ``draw``."""
        return (
            jax.tree.map(lambda leaf: leaf[draw], self.reference) if self.draws else self.reference
        )

    def blend(
        self,
        data: PyTree,
        gate: Float[Array, "units"] | Bool[Array, "units"],
        draw: int | Int[Array, ""] = 0,
    ) -> PyTree:
        """The data with units replaced by the reference: ``g x + (1 - g) reference`` per entry.

        Args:
          data: of one example.
          gate: booleans choose; floats blend, which integer leaves refuse.
          draw: which reference draw.

        Raises:
          InputError: a float gate on an integer leaf, a gate of another length, or a reference
            that does not fit the data.
        """
        if gate.shape != (self.units,):
            raise InputError(
                "gate", f"has shape {gate.shape}", f"use ({self.units},), one entry per unit"
            )
        hard = gate.dtype == jnp.bool_
        one = jnp.ones((1,), gate.dtype)
        padded = jnp.concatenate([gate, one])  # -1 reads the last entry

        def mix(leaf: Any, reference: Array, groups: tuple[Any, ...]) -> Array:
            leaf = jnp.asarray(leaf)
            reference = jnp.asarray(reference)
            if not _fits(reference.shape, leaf.shape):
                raise InputError(
                    "reference",
                    f"has shape {reference.shape} for data of shape {leaf.shape}",
                    "give one reference like the data (with_marginal takes many)",
                )
            reference = reference.astype(leaf.dtype)
            parts = [padded[jnp.asarray(g)] for g in groups]
            if hard:
                open_ = parts[0]
                for part in parts[1:]:
                    open_ = open_ & part
                return jnp.where(open_, leaf, reference)
            if not is_inexact(leaf):
                raise InputError(
                    "gate",
                    f"is soft ({gate.dtype}) on data of {leaf.dtype}",
                    "use boolean gates for integer data",
                )
            weight = parts[0]
            for part in parts[1:]:
                weight = weight * part
            weight = weight.astype(leaf.dtype)
            return weight * leaf + (1 - weight) * reference

        return jax.tree.map(
            lambda groups, leaf, ref: mix(leaf, ref, groups),
            self.groups,
            data,
            self.reference_at(draw),
            is_leaf=_is_tuple,
        )

    def reduce(self, elements: PyTree) -> Float[Array, "units"]:
        """Sums attributions of entries over units: a unit's score is the sum over its elements.

        An entry gated by several units (an edge of two nodes) is shared between them in equal
        parts, so the total is kept; entries that are never gated are left out.
        """
        groups = jax.tree.leaves(self.groups, is_leaf=_is_tuple)
        leaves = jax.tree.leaves(elements, is_leaf=lambda x: x is None)
        # at least 32 bits: sums in half precision stop growing after a few hundred entries
        dtype = jnp.result_type(jnp.float32, *(leaf for leaf in leaves if leaf is not None))
        total = jnp.zeros((self.units,), dtype)
        for leaf, where in zip(leaves, groups, strict=True):
            if leaf is None:
                continue
            part = leaf.astype(dtype)
            if len(where) > 1:  # -1 does not gate, so it takes no share
                owners = sum((jnp.asarray(g >= 0, dtype) for g in where), start=0.0)
                part = part / jnp.maximum(owners, 1)
            for g in where:
                index = jnp.broadcast_to(g, leaf.shape).reshape(-1)
                place = jnp.where(index < 0, self.units, index)
                total = total.at[place].add(part.reshape(-1), mode="drop")
        return total


def _fits(shape: tuple[int, ...], like: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, like) == like
    except ValueError:
        return False


def _is_tuple(x: Any) -> bool:
    return isinstance(x, tuple)


def _is_group(x: Any) -> bool:
    return isinstance(x, tuple | list) and all(hasattr(i, "dtype") for i in x)


def _as_tuple(x: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(g) for g in x) if isinstance(x, tuple | list) else (np.asarray(x),)
