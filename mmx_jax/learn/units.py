"""One vector per unit of any modality: what a learned explainer reads."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.models.embedding import Embedding
from mmx_jax.numerics import is_inexact
from mmx_jax.rows import Rows

__all__ = ["GatheredRows", "UnitEncoder", "unit_rows"]


@dataclasses.dataclass(frozen=True)
class GatheredRows:
    """A row per unit of all real entries that it gates, for any groups; a hashable setting.

    An entry that two units gate (an edge between nodes) stands in both rows. Entries that are
    never gated are left out.

    Attributes:
      index: per unit the places of its entries in the flat data, padded by ``entries``.
      entries: how many entries the flat data has.
      copies: how many rows an entry stands in at most.

    >>> rows = GatheredRows.of(Modality.edges(3, nodes=3))
    >>> rows.units, rows.size, rows.copies
    (3, 2, 1)
    """

    index: tuple[tuple[int, ...], ...]
    entries: int
    copies: int

    @classmethod
    def of(cls, modality: Modality) -> "GatheredRows":
        """The rows of a modality whose reference tells the shapes of its data.

        Raises:
          InputError: integer data, or a scalar reference, which tells no shape.
        """
        held: list[list[int]] = [[] for _ in range(modality.units)]
        start, copies = 0, 1
        leaves = jax.tree.leaves(modality.reference_at(0))
        groups = jax.tree.leaves(modality.groups, is_leaf=lambda g: isinstance(g, tuple))
        for leaf, where in zip(leaves, groups, strict=True):
            if not is_inexact(leaf) or leaf.ndim == 0:
                raise InputError(
                    "modality",
                    f"of kind {modality.kind!r} has no row of real entries per unit",
                    "give a real reference of the data's shape, or use token ids",
                )
            units = [np.broadcast_to(g, leaf.shape).reshape(-1) for g in where]
            for place in range(leaf.size):
                of = {int(u[place]) for u in units} - {-1}
                copies = max(copies, len(of))
                for unit in of:
                    held[unit].append(start + place)
            start += leaf.size
        width = max(1, *(len(row) for row in held))
        index = tuple(tuple(row + [start] * (width - len(row))) for row in held)
        return cls(index, start, copies)

    @property
    def units(self) -> int:
        """The number of rows."""
        return len(self.index)

    @property
    def size(self) -> int:
        """Entries per row."""
        return len(self.index[0])

    def split(self, data: PyTree) -> Float[Array, "units size"]:
        """One row per unit, zeros where a unit has fewer entries than others."""
        flat = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(data)])
        padded = jnp.concatenate([flat, jnp.zeros((1,), flat.dtype)])
        return padded[np.array(self.index)]


def unit_rows(modality: Modality) -> Rows | GatheredRows:
    """The data as a table with a row per unit: by reshaping where that does, else by gathering."""
    try:
        return Rows.of(modality)
    except InputError:
        return GatheredRows.of(modality)


class UnitEncoder(nnx.Module):
    """A vector per unit ``[units, dim]``.

    Patches, tokens, ids, frames, columns and nodes are embedded as the package's models embed
    them; any other real data by a projection of each unit's row plus a learned position.

    Args:
      name: of the modality.
      modality: its units.
      dim: width of the vectors.
      rngs: draws the weights.
    """

    def __init__(self, name: str, modality: Modality, dim: int, rngs: nnx.Rngs):
        graph = isinstance(modality.reference, dict)
        self.rows = None
        if modality.kind == "token id" or (graph and modality.kind == "node"):
            self.embed = Embedding(name, modality, dim, rngs)
            return
        rows = unit_rows(modality)
        if isinstance(rows, Rows):
            self.embed = Embedding(name, modality, dim, rngs)
            return
        self.rows = rows
        self.embed = nnx.Linear(rows.size, dim, rngs=rngs)
        normal = nnx.initializers.normal(0.02)
        self.position = nnx.Param(normal(rngs.params(), (rows.units, dim)))

    def __call__(self, data: PyTree) -> Float[Array, "units dim"]:
        """Vectors of the units of one example."""
        if self.rows is None:
            return self.embed(data)
        return self.embed(self.rows.split(data)) + self.position[...]
