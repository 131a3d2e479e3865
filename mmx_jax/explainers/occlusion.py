"""Removal explainers: occlusion, feature permutation, RISE. They need no gradient.

``v(x_-S)`` is the value with the units S at their reference, averaged over the draws of a marginal
one. Gates are hard, so integer data (token ids) are fine.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax import gates as gt
from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.explainers.base import calls, check_at_least, check_key, draws_of, units_of
from mmx_jax.explainers.plans import Plan, joint_sum, within_sums
from mmx_jax.explainers.sampling import below, marks, places
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import accumulate
from mmx_jax.modality import Modality
from mmx_jax.model import pick
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["RISE", "FeaturePermutation", "Occlusion"]


@record
class Occlusion:
    """What is lost when a window of units is removed, the rest intact.

    ``E_u = mean over windows W that hold u of (v(x) - v(x_-W)) / |W|``; Zeiler and Fergus,
    *Visualizing and Understanding Convolutional Networks* (2014). An effect is divided evenly
    among the units of its window, so scores are comparable across window sizes. On patches a
    window is a square of the grid; on other kinds it is a run of neighbours.

    Args:
      modalities: what is explained; other inputs stay as they are.
      window: units per side of a window.
      stride: units from one window to the next; the last is cut at the border.
      chunk: model calls made at once.

    Raises:
      InputError: a window below 1, or a stride that is below 1 or leaves units uncovered.

    >>> model = lambda inputs: jnp.stack([inputs["x"][0] * inputs["x"][1] + inputs["x"][2]])
    >>> explain = Occlusion({"x": Modality.columns(3)})
    >>> explain(model, {"x": jnp.array([2.0, 3.0, 1.0])}, 0)["x"].tolist()
    [6.0, 6.0, 1.0]
    """

    modalities: dict[str, Modality]
    window: int = static(default=1)
    stride: int = static(default=1)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, window=self.window, stride=self.stride, chunk=self.chunk)
        if self.stride > self.window:
            raise InputError(
                "stride",
                f"is {self.stride} with a window of {self.window}",
                "use at most the window, or units between windows are never removed",
            )

    def windows(self, name: str) -> np.ndarray:
        """Which units each window of a modality holds, ``[windows, units]`` of booleans."""
        modality = self.modalities[name]
        grid = tuple(modality.layout) if modality.kind == "patch" else (modality.units,)
        if math.prod(grid) != modality.units:
            grid = (modality.units,)
        table = np.ones((1, 1), bool)
        for length in grid:
            table = np.kron(table, _runs(length, self.window, self.stride))
        return table

    @property
    def evaluations(self) -> int:
        """One call for the intact input, one per window and reference draw."""
        return 1 + calls(self.modalities, sum(len(self.windows(n)) for n in self.modalities))

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        plans, totals = {}, {}
        for name in sorted(self.modalities):
            windows = self.windows(name)
            weights = windows / windows.sum(1, keepdims=True) / windows.sum(0)
            plans[name] = _removals(windows, weights)
            totals[name] = jnp.asarray(weights.sum(0), jnp.float32)
        lost = within_sums(self.modalities, plans, model, inputs, target, self.chunk)
        intact = pick(model(inputs), target)
        return {n: totals[n] * intact + lost[n] for n in plans}


def _runs(length: int, window: int, stride: int) -> np.ndarray:
    """Runs of neighbours until one reaches the border, ``[runs, length]`` of booleans."""
    starts = np.arange(0, max(length - window, 0) + stride, stride)
    place = np.arange(length)
    return (place >= starts[:, None]) & (place < starts[:, None] + window)


def _removals(removed: np.ndarray, weights: np.ndarray) -> Plan:
    gates, minus = jnp.asarray(~removed), jnp.asarray(-weights, jnp.float32)
    return Plan(len(removed), lambda i: (gates[i], minus[i]))


@record
class FeaturePermutation:
    """Feature permutation for one example: what is lost when a unit comes from other examples.

    ``E_u = v(x) - 1/n sum_s v(x with unit u from row d_u,s)``, where ``d_u,1 ... d_u,n`` are
    different rows of the background, drawn anew for every unit. Breiman, *Random Forests* (2001),
    permutes a column over a whole data set; for a single example that is to replace it by the
    column of other rows (Fisher, Rudin and Dominici, *All Models are Wrong, but Many are Useful*,
    2019). The background are the draws of a marginal reference; with ``samples`` equal to their
    number nothing is left to chance and the result is :class:`Occlusion` of single units.

    Args:
      modalities: what is explained, every one with a marginal reference.
      samples: rows per unit (n), at most the draws of the reference.
      chunk: model calls made at once.

    Raises:
      InputError: a reference that isn't marginal, or more samples than it has draws; when called
        without a key.
    """

    modalities: dict[str, Modality]
    samples: int = static(default=8)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names, references and settings."""
        check_modalities(self.modalities)
        check_at_least(1, samples=self.samples, chunk=self.chunk)
        for name, modality in self.modalities.items():
            if not modality.draws:
                raise InputError(
                    f"modalities[{name!r}]",
                    f"has a {modality.reference_kind} reference, so no rows to permute with",
                    "set one by with_marginal",
                )
        if self.samples > draws_of(self.modalities):
            raise InputError(
                "samples",
                f"is {self.samples} of {draws_of(self.modalities)} background rows",
                "use at most all of them",
            )

    @property
    def evaluations(self) -> int:
        """One call for the intact input, one per unit and row."""
        return 1 + self.samples * sum(units_of(self.modalities).values())

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        key = check_key("FeaturePermutation", key)
        gated, units = FeatureGates(self.modalities), units_of(self.modalities)
        total = sum(units.values())
        drawn = marks(key, draws_of(self.modalities))

        def term(index: Array) -> Float[Array, "all_units"]:
            unit, sample = index // self.samples, index % self.samples
            here = jnp.arange(total) == unit
            row = jnp.argmax(places(drawn(unit)) == sample)
            changed = gated.blend(inputs, gt.unflatten(~here, units), row)
            return here * pick(model(changed), target)

        mean = accumulate(term, total * self.samples, self.chunk) / self.samples
        return gt.unflatten(pick(model(inputs), target) - mean, units)


@record
class RISE:
    """The mean value over random masks that keep a unit.

    ``E_u = 1 / (n p) sum_s M_s,u v(x under M_s)`` with ``M_s,u ~ Bernoulli(p)`` over the units of
    all modalities together; Petsiuk, Das and Saenko, *RISE* (2018). A unit is a cell of their
    low-resolution grid; masks here are hard, so there is no upsampling. As published, scores are
    values and not differences: all of them hold ``E[v]``, also those of units without effect.

    Args:
      modalities: what is explained; other inputs stay as they are.
      samples: masks (n).
      share: probability of keeping a unit (p).
      chunk: model calls made at once.

    Raises:
      InputError: no samples, or a share outside (0, 1); when called without a key.
    """

    modalities: dict[str, Modality]
    samples: int = static(default=512)
    share: float = static(default=0.5)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, samples=self.samples, chunk=self.chunk)
        if not 0 < self.share < 1:
            raise InputError("share", f"is {self.share}", "use a number between 0 and 1")

    @property
    def evaluations(self) -> int:
        """One call per mask and reference draw."""
        return calls(self.modalities, self.samples)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        key = check_key("RISE", key)
        drawn = marks(key, sum(units_of(self.modalities).values()))

        def row(index: Array) -> tuple[Array, Array]:
            gate = below(drawn(index), self.share)
            return gate, gate / jnp.float32(self.samples * self.share)

        plan = Plan(self.samples, row)
        flat = joint_sum(self.modalities, plan, model, inputs, target, self.chunk)
        return gt.unflatten(flat, units_of(self.modalities))
