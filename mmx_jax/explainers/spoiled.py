"""Negative controls that spoil a good explanation in one known way each.

They wrap an explainer, so that nothing but the fault separates them from it.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.explainers.base import calls, units_of
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import mean_over
from mmx_jax.modality import Modality
from mmx_jax.numerics import safe_divide
from mmx_jax.typing import Explainer, Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["ModalityBlind", "OthersAtReference", "PerInputNormalised", "Smeared", "WrongModel"]


@record
class ModalityBlind:
    """The explanation of one modality; the others are said to do nothing.

    The cheat: what explainers made for a single modality do to a multimodal model. Where only
    that modality matters it is the truth.

    Args:
      modalities: whose units are scored.
      explainer: explains all of them; only ``name`` is kept.
      name: the modality that is seen; the first sorted name if None.

    Raises:
      UnknownNameError: a name that is no modality.
    """

    modalities: dict[str, Modality]
    explainer: Explainer
    name: str | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks the name."""
        check_modalities(self.modalities)
        if self.name is not None and self.name not in self.modalities:
            raise UnknownNameError("name", self.name, self.modalities)

    @property
    def evaluations(self) -> int:
        """Those of the explainer."""
        return self.explainer.evaluations

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example, 0 but for one modality."""
        seen = min(self.modalities) if self.name is None else self.name
        scores = self.explainer(model, inputs, target, key)
        return {n: s if n == seen else jnp.zeros_like(s) for n, s in scores.items()}


@record
class OthersAtReference:
    """Every modality explained with all other modalities at their reference.

    ``E_m(x) = explainer(f, x with the others at reference)_m``, averaged over reference draws.
    The cheat: each part is a faithful explanation, of inputs that aren't there. It sees no
    interaction between modalities: synergy disappears, redundancy counts in full.

    Args:
      modalities: whose units are scored.
      explainer: explains all of them; asked once per modality and reference draw.
    """

    modalities: dict[str, Modality]
    explainer: Explainer

    def __post_init__(self) -> None:
        """Checks the names."""
        check_modalities(self.modalities)

    @property
    def evaluations(self) -> int:
        """Those of the explainer, per modality and reference draw."""
        return calls(self.modalities, len(self.modalities)) * self.explainer.evaluations

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        names, units = sorted(self.modalities), units_of(self.modalities)
        gated = FeatureGates(self.modalities)

        def alone(index: Array) -> Scores:
            # one traced copy of the explainer serves every modality
            which, draw = index % len(names), index // len(names)
            here = {n: which == i for i, n in enumerate(names)}
            gates = {n: jnp.broadcast_to(here[n], (units[n],)) for n in names}
            scores = self.explainer(model, gated.blend(inputs, gates, draw), target, key)
            return {n: jnp.where(here[n], scores[n], 0) for n in names}

        mean = mean_over(alone, calls(self.modalities, len(names)), chunk=1)
        return {n: len(names) * score for n, score in mean.items()}


@record
class WrongModel:
    """The explanation of another model, for instance one that uses other units.

    The cheat: a perfectly faithful, stable explanation, of something else.

    Args:
      explainer: any.
      model: the model that is explained instead.
    """

    explainer: Explainer
    model: Model

    @property
    def evaluations(self) -> int:
        """Those of the explainer, all of them calls of the other model."""
        return self.explainer.evaluations

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the model passed in is ignored."""
        return self.explainer(self.model, inputs, target, key)


@record
class Smeared:
    """An explanation of which every unit gives a share to its neighbours, in equal parts.

    Neighbours are the units above, below, left and right on a grid of patches, and the ones before
    and after otherwise; the sum of each modality is kept. The cheat: masses are right and places
    nearly so, but units without effect are highlighted.

    Args:
      modalities: whose units are scored.
      explainer: whose explanation is smeared.
      share: what a unit gives away.

    Raises:
      InputError: a share outside [0, 1].
    """

    modalities: dict[str, Modality]
    explainer: Explainer
    share: float = static(default=0.5)

    def __post_init__(self) -> None:
        """Checks the share."""
        check_modalities(self.modalities)
        if not 0 <= self.share <= 1:
            raise InputError("share", f"is {self.share}", "use a number from 0 to 1")

    @property
    def evaluations(self) -> int:
        """Those of the explainer."""
        return self.explainer.evaluations

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        scores = self.explainer(model, inputs, target, key)
        out = {}
        for name, score in scores.items():
            beside = neighbours(self.modalities[name])
            degree = beside.sum(0)
            given = self.share * (degree > 0)
            spread = beside * (given / np.maximum(degree, 1)) + np.diag(1 - given)
            out[name] = jnp.asarray(spread, score.dtype) @ score
        return out


def neighbours(modality: Modality) -> np.ndarray:
    """Which units lie side by side, ``[units, units]`` of booleans."""
    grid = tuple(modality.layout) if modality.kind == "patch" else (modality.units,)
    if math.prod(grid) != modality.units:
        grid = (modality.units,)
    place = np.indices(grid).reshape(len(grid), -1)
    return np.abs(place[:, :, None] - place[:, None, :]).sum(0) == 1


@record
class PerInputNormalised:
    """An explanation divided by its own mass: ``E'_u = E_u / sum_n ||E_n||_1``.

    The cheat: every input gets the same amount of importance, also one on which the model does
    nothing (its units share it evenly there), and a part that loses its evidence is blown up again.
    Where one modality is all there is, little of that shows.

    Args:
      explainer: whose explanation is normalised.
    """

    explainer: Explainer

    @property
    def evaluations(self) -> int:
        """Those of the explainer."""
        return self.explainer.evaluations

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example, whose magnitudes sum to 1."""
        scores = self.explainer(model, inputs, target, key)
        mass = sum((jnp.sum(jnp.abs(s)) for s in scores.values()), start=jnp.zeros(()))
        even = 1 / sum(s.shape[0] for s in scores.values())
        return {n: safe_divide(s, mass, even) for n, s in scores.items()}
