"""Data as a table with one row per unit, and back: what models embed and worlds are written in."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.errors import InputError
from mmx_jax.modality import Modality

__all__ = ["Rows"]


@dataclasses.dataclass(frozen=True)
class Rows:
    """How one array of data falls into a row of entries per unit; a hashable setting.

    Attributes:
      shape: of the data.
      grid: patches per axis for images, empty where the leading axis already counts units.

    >>> rows = Rows.of(Modality.patches((8, 8), 2))
    >>> rows.units, rows.size
    (16, 4)
    """

    shape: tuple[int, ...]
    grid: tuple[int, ...] = ()

    @classmethod
    def of(cls, modality: Modality) -> "Rows":
        """The rows of patches, tokens, frames, columns or a vector of edges.

        Raises:
          InputError: data of several arrays, or whose leading axis doesn't count the units.
        """
        reference = modality.reference_at(0)
        if hasattr(reference, "shape"):
            shape = tuple(int(n) for n in reference.shape)
            if modality.kind == "patch":
                return cls(shape, modality.layout)
            if shape[:1] == (modality.units,):
                return cls(shape)
        raise InputError(
            "modality",
            f"of kind {modality.kind!r} has no row per unit",
            "use patches, tokens, frames or columns, or give a reference [units, ...]",
        )

    @property
    def units(self) -> int:
        """The number of rows."""
        return int(np.prod(self.grid)) if self.grid else self.shape[0]

    @property
    def size(self) -> int:
        """Entries per row."""
        return int(np.prod(self.shape)) // self.units

    def split(self, data: Float[Array, "..."]) -> Float[Array, "units size"]:
        """One row per unit."""
        if self.grid:
            cut = data.reshape(self._cut)
            data = jnp.moveaxis(cut, 2, 1)  # [rows, columns, height, width, ...]
        return data.reshape(self.units, self.size)

    def join(self, rows: Float[Array, "units size"]) -> Float[Array, "..."]:
        """The inverse of :meth:`split`."""
        if self.grid:
            cut = self._cut
            rows = jnp.moveaxis(rows.reshape(cut[0], cut[2], cut[1], *cut[3:]), 1, 2)
        return rows.reshape(self.shape)

    @property
    def _cut(self) -> tuple[int, ...]:
        (height, width, *channels), (down, across) = self.shape, self.grid
        return (down, height // down, across, width // across, *channels)
