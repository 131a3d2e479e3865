"""Negative controls that don't look inside the model: what an explanation must not be.

A measure that lets one of them pass can't tell it from the truth. The edge detector is also run
with the right masses, as ``Rescaled(modalities, EdgeDetector(modalities))``. Controls that spoil a
good explanation are in :mod:`mmx_jax.explainers.spoiled`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mmx_jax.checks import check_modalities
from mmx_jax.explainers.base import calls, check_key, draws_of, reduce, units_of
from mmx_jax.explainers.composite import Rescaled
from mmx_jax.modality import Modality
from mmx_jax.numerics import derive_key, is_inexact
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record

__all__ = ["Constant", "EdgeDetector", "Random", "ReferenceDetector", "UniformMass"]


@record
class _ModelFree:
    """What the controls that never call the model share."""

    modalities: dict[str, Modality]

    def __post_init__(self) -> None:
        """Checks the names."""
        check_modalities(self.modalities)

    @property
    def evaluations(self) -> int:
        """None."""
        return 0


@record
class Constant(_ModelFree):
    """Every unit scores 1, whatever the model and the input.

    The cheat: it is perfectly stable. It reacts to nothing and highlights nothing.

    Args:
      modalities: whose units are scored.
    """

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}``; all arguments are ignored."""
        return {name: jnp.ones((units,)) for name, units in units_of(self.modalities).items()}


@record
class Random(_ModelFree):
    """Independent standard normal scores, drawn from the key alone.

    The cheat: with the key shared by x and its changes it is perfectly stable too, and unlike a
    constant it has a definite ranking.

    Args:
      modalities: whose units are scored.

    Raises:
      InputError: when called without a key.
    """

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}``; model, inputs and target are ignored."""
        key = check_key("Random", key)
        units = units_of(self.modalities)
        return {n: jax.random.normal(derive_key(key, n), (units[n],)) for n in units}


@record
class EdgeDetector(_ModelFree):
    """Scores local variation of the input; the model is never asked.

    ``E_u = sum_{i in u} sum_axes |x_i+1 - x_i-1| / 2`` over the axes along which units vary: rows
    and columns of an image, time in a sequence. For integers a difference counts as 1. Adebayo
    et al., *Sanity Checks for Saliency Maps* (2018), use an edge detector to show that pictures
    may convince without any knowledge of the model.

    The cheat: it looks right on images, and it changes when its modality is ablated, as the
    diagonal Granger condition asks; rescaled, its masses are even correct.

    Args:
      modalities: whose units are scored.
    """

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}``; model, target and key are ignored."""
        edges = {
            name: jax.tree.map(
                _variation, modality.groups, inputs[name], is_leaf=lambda g: isinstance(g, tuple)
            )
            for name, modality in self.modalities.items()
        }
        return reduce(self.modalities, edges)


def _variation(groups: tuple[Any, ...], leaf: Array) -> Array:
    """Size of the central differences along the axes on which the unit depends."""
    total = jnp.zeros(leaf.shape, leaf.dtype if is_inexact(leaf) else jnp.float32)
    for axis in range(leaf.ndim):
        # groups broadcast to the data: axes they lack are in front
        varies = any(g.ndim >= leaf.ndim - axis and g.shape[axis - leaf.ndim] > 1 for g in groups)
        if not varies or leaf.shape[axis] < 2:
            continue
        last = leaf.shape[axis] - 1
        place = np.arange(last + 1)
        after, before = (jnp.take(leaf, np.clip(place + step, 0, last), axis) for step in (1, -1))
        total += jnp.abs(after - before) / 2 if is_inexact(leaf) else after != before
    return total


@record
class ReferenceDetector(_ModelFree):
    """Scores 1 for every unit that differs from its reference, 0 for the others.

    The cheat: it never asks the model, and yet every ablation changes it (with a marginal
    reference a unit counts as at its reference if it equals any draw).

    Args:
      modalities: whose units are scored.
    """

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}``; model, target and key are ignored."""
        return {n: self._differs(n, inputs[n]) for n in sorted(self.modalities)}

    def _differs(self, name: str, data: PyTree) -> Float[Array, "units"]:
        modality = self.modalities[name]
        closed = jnp.zeros((modality.units,), bool)

        def moved(draw: Array) -> Array:
            reference = modality.blend(data, closed, draw)
            changed = jax.tree.map(lambda a, b: (a != b).astype(jnp.float32), data, reference)
            return modality.reduce(changed) == 0

        same = jax.vmap(moved)(jnp.arange(draws_of({name: modality})))
        return 1.0 - jnp.any(same, axis=0)


@record
class UniformMass:
    """The right mass of every modality, spread evenly: ``E_u = df_m / units_m``.

    The cheat: it follows the diagonal Granger condition exactly and says nothing about units.

    Args:
      modalities: whose effects are measured and whose units are scored.
    """

    modalities: dict[str, Modality]

    def __post_init__(self) -> None:
        """Checks the names."""
        check_modalities(self.modalities)

    @property
    def evaluations(self) -> int:
        """M + 1 values."""
        return calls(self.modalities, len(self.modalities) + 1)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        even = Rescaled(self.modalities, Constant(self.modalities))
        return even(model, inputs, target, None)
