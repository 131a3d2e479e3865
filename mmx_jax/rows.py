"""Data as a table with one row per unit, and back: what models embed and worlds are written in."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mmx_jax.errors import InputError
from mmx_jax.modality import Modality

__all__ = ["Rows"]


@dataclasses.dataclass(frozen=True)
class Rows:
    """How one array of data falls into a row of entries per unit; a hashable setting.

    Attributes:
      shape: of the data (of the leaf that holds the rows).
      grid: patches per axis for images, empty where the leading axis already counts units.
      leaf: the entry of the data that holds the rows: ``"features"`` for a graph's nodes.

    >>> rows = Rows.of(Modality.patches((8, 8), 2))
    >>> rows.units, rows.size
    (16, 4)
    """

    shape: tuple[int, ...]
    grid: tuple[int, ...] = ()
    leaf: str = ""

    @classmethod
    def of(cls, modality: Modality) -> "Rows":
        """The rows of patches, tokens, frames, columns, nodes or a vector of edges.

        Raises:
          InputError: data of several arrays, or whose leading axis doesn't count the units.
        """
        reference = modality.reference_at(0)
        if modality.kind == "node" and isinstance(reference, dict):
            return cls(tuple(int(n) for n in reference["features"].shape), leaf="features")
        if hasattr(reference, "shape"):
            shape = tuple(int(n) for n in reference.shape)
            if modality.kind == "patch":
                return cls(shape, modality.layout)
            if shape[:1] == (modality.units,):
                return cls(shape)
        raise InputError(
            "modality",
            f"of kind {modality.kind!r} has no row per unit",
            "use patches, tokens, frames, nodes or columns, or give a reference [units, ...]",
        )

    @property
    def units(self) -> int:
        """The number of rows."""
        return int(np.prod(self.grid)) if self.grid else self.shape[0]

    @property
    def size(self) -> int:
        """Entries per row."""
        return int(np.prod(self.shape)) // self.units

    def split(self, data: PyTree) -> Float[Array, "units size"]:
        """One row per unit."""
        data = data[self.leaf] if self.leaf else data
        if self.grid:
            cut = data.reshape(self._cut)
            data = jnp.moveaxis(cut, 2, 1)  # [rows, columns, height, width, ...]
        return data.reshape(self.units, self.size)

    def join(self, rows: Float[Array, "units size"], rest: dict[str, Any] | None = None) -> PyTree:
        """The inverse of :meth:`split`; ``rest`` holds the other leaves of a graph."""
        if self.grid:
            cut = self._cut
            rows = jnp.moveaxis(rows.reshape(cut[0], cut[2], cut[1], *cut[3:]), 1, 2)
        joined = rows.reshape(self.shape)
        return (rest or {}) | {self.leaf: joined} if self.leaf else joined

    @property
    def _cut(self) -> tuple[int, ...]:
        (height, width, *channels), (down, across) = self.shape, self.grid
        return (down, height // down, across, width // across, *channels)
