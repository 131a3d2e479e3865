"""Explains many inputs through one compiled program: examples, their rows, and their ablations."""

import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from mmx_jax.desiderata.explained import (
    Changes,
    Explained,
    ScoreRows,
    changes,
    collect,
    counterfactuals,
)
from mmx_jax.mapping import Progress, map_examples
from mmx_jax.numerics import derive_key
from mmx_jax.typing import Explainer, Inputs, Intervention, Model, record

__all__ = ["Examples", "explain_changes", "explain_rows", "keys_of"]


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split, with a leading axis of examples.

    Attributes:
      inputs: per modality.
      targets: ``[n]``, chosen on the intact inputs.
      keys: ``[n]``, from :func:`mmx_jax.derive_keys`.
    """

    inputs: Inputs
    targets: Any
    keys: Any

    def __len__(self) -> int:
        """How many."""
        return int(np.shape(self.targets)[0])

    def first(self, count: int) -> "Examples":
        """The first ``count`` of them."""
        return jax.tree.map(lambda x: x[:count], self)


jax.tree_util.register_dataclass(Examples, ["inputs", "targets", "keys"], [])


@partial(jax.jit, static_argnums=(1, 2))
def keys_of(keys: Array, purpose: str, count: int) -> Array:
    """``count`` keys ``[n, count]`` per example for one purpose."""
    return jax.vmap(lambda key: jax.random.split(derive_key(key, purpose), count))(keys)


def explain_rows(
    explainer: Explainer,
    model: Model,
    rows: Inputs,
    targets: Any,
    keys: Any,
    *,
    chunk: int = 32,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Explains rows ``[n, r, ...]`` of inputs, all in chunks of one size: one compilation.

    Args:
      explainer: the explainer.
      model: the model.
      rows: r inputs per example.
      targets: ``[n]``.
      keys: ``[n]``, the same for all rows of an example, or ``[n, r]``.
      chunk: explanations per compiled call.
      mesh: devices.
      progress: called after each chunk.

    Returns:
      scores ``[n, r, units]``.
    """
    n, r = jax.tree.leaves(rows)[0].shape[:2]
    total = n * r
    index = np.arange(max(total, chunk)).clip(max=total - 1)  # padded to one whole chunk
    flat = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:])[index], rows)
    drawn = keys.reshape(total)[index] if keys.ndim == 2 else keys[index // r]
    scores = map_examples(
        explainer,
        model,
        flat,
        np.asarray(targets)[index // r],
        drawn,
        in_axes=(None, 0, 0, 0),
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )
    return jax.tree.map(lambda s: s[:total].reshape(n, r, *s.shape[1:]), scores)


def explain_changes(
    intervention: Intervention,
    model: Model,
    explainer: Explainer,
    examples: Examples,
    *,
    chunk: int = 32,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> tuple[Explained, Changes]:
    """Explains every x and x_-m, and says how explanations change."""
    # few examples at a time where each has many rows: one per modality and reference draw
    count = 1 + len(intervention.units) * intervention.draws
    rows = map_examples(_Counterfactuals(intervention), examples.inputs, chunk=max(1, 256 // count))
    scores = explain_rows(
        explainer,
        model,
        rows,
        examples.targets,
        examples.keys,
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )
    return map_examples(_Collect(intervention), scores)


@record
class _Counterfactuals:
    intervention: Intervention

    def __call__(self, inputs: Inputs) -> Inputs:
        return counterfactuals(self.intervention, inputs)


@record
class _Collect:
    intervention: Intervention

    def __call__(self, rows: ScoreRows) -> tuple[Explained, Changes]:
        scores = collect(self.intervention, rows)
        return scores, changes(scores)
