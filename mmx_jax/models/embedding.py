"""Embeds any modality of the package as tokens ``[length, dim]``."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from mmx_jax.modality import Modality
from mmx_jax.model import Site, ignore
from mmx_jax.rows import Rows

__all__ = ["Embedding"]


class PerUnit(nnx.Module):
    """Scales a vector of its own for every unit of one entry: a table's columns differ in kind.

    Args:
      units: how many.
      dim: width of the vectors.
      rngs: draws the weights.
    """

    def __init__(self, units: int, dim: int, rngs: nnx.Rngs):
        self.scale = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (units, dim)))

    def __call__(self, rows: Float[Array, "units 1"]) -> Float[Array, "units dim"]:
        """Tokens of the units."""
        return rows * self.scale[...]


class Embedding(nnx.Module):
    """Tokens of one modality: a projection of its units plus learned positions.

    Patches, token vectors and frames are projected row by row, token ids looked up, columns
    scaled by a vector of their own. A graph has one token per node, a projection of its
    features and of the sum of its neighbours' features; nodes share one position, so relabelling
    them only permutes the tokens.

    Args:
      name: of the modality; the edit site is ``embedding/<name>``.
      modality: its units.
      dim: width of the tokens.
      rngs: draws the weights.
    """

    def __init__(self, name: str, modality: Modality, dim: int, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(0.02)
        self.name, self.rows = name, None
        if isinstance(modality.reference, dict):
            length, size = 1, modality.reference["features"].shape[-1]
            self.project = nnx.Linear(2 * size, dim, rngs=rngs)
        elif modality.kind == "token id":
            length, vocabulary = modality.layout
            self.project = nnx.Embed(vocabulary, dim, rngs=rngs)
        else:
            self.rows = Rows.of(modality)
            length, size = self.rows.units, self.rows.size
            single = size == 1
            self.project = (
                PerUnit(length, dim, rngs) if single else nnx.Linear(size, dim, rngs=rngs)
            )
        self.position = nnx.Param(normal(rngs.params(), (length, dim)))

    def __call__(self, data: PyTree, site: Site = ignore) -> Float[Array, "length dim"]:
        """Tokens of one example."""
        if isinstance(data, dict):
            neighbours = data["adjacency"] @ data["features"]
            data = jnp.concatenate([data["features"], neighbours], -1)
        elif self.rows is not None:
            data = self.rows.split(data)
        return site(f"embedding/{self.name}", self.project(data) + self.position[...])
