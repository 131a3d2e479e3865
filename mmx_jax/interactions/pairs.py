"""Explanations of pairs: how much units of two modalities matter together.

An explanation of pairs is ``{(n, m): [units_n, units_m]}`` for all pairs of modalities with
n < m, and an explainer of pairs a callable pytree ``explain(model, inputs, target, key)``, like an
explainer of units. :class:`~mmx_jax.interactions.SecondOrderGradients` is another one.
"""

from itertools import combinations
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from scipy import stats

from mmx_jax.errors import InputError
from mmx_jax.games import MAX_PLAYERS
from mmx_jax.gates import unflatten
from mmx_jax.interactions.evaluate import unit_game
from mmx_jax.interactions.indices import shapley_interactions
from mmx_jax.intervention import value
from mmx_jax.mapping import accumulate, map_stacked
from mmx_jax.numerics import derive_key, safe_divide
from mmx_jax.typing import (
    ArrayLike,
    Explainer,
    Inputs,
    Intervention,
    Model,
    PRNGKey,
    Target,
    record,
    static,
)

__all__ = ["PairExplainer", "PairScores", "ProductPairs", "SampledPairs", "ShapleyPairs"]

PairScores = dict[tuple[str, str], ArrayLike]
"""``{(n, m): [units_n, units_m]}``, n < m."""


@runtime_checkable
class PairExplainer(Protocol):
    """A callable pytree that scores all pairs of units of different modalities."""

    @property
    def evaluations(self) -> int:
        """The number of model calls that one explanation makes."""
        ...

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None, /
    ) -> PairScores:
        """Scores of the pairs of one example for one target."""
        ...


@record
class ShapleyPairs:
    """Exact Shapley interactions of pairs across modalities, all units being players.

    Attributes:
      intervention: the units and the mask distribution.
      index: ``"SII"``, ``"k-SII"`` or ``"STII"``
        (:func:`~mmx_jax.interactions.shapley_interactions`).
      chunk: model evaluations made at once.

    Raises:
      InputError: more than 16 units in all, for which :class:`SampledPairs` is meant.
    """

    intervention: Intervention
    index: str = static(default="SII")
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Refuses games that can't be enumerated."""
        total = sum(self.intervention.units.values())
        if total > MAX_PLAYERS:
            raise InputError(
                "intervention",
                f"has {total} units",
                f"exact interactions take {MAX_PLAYERS}; use interactions.SampledPairs",
            )

    @property
    def evaluations(self) -> int:
        """Model evaluations per explanation."""
        return (1 << sum(self.intervention.units.values())) * self.intervention.draws

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> PairScores:
        """Scores ``{(n, m): [units_n, units_m]}`` of one example for one target."""
        del key
        units = self.intervention.units
        table = unit_game(self.intervention, model, inputs, target, self.chunk)
        matrix = shapley_interactions(table, 2, self.index).matrix()
        start = _starts(units)
        return {
            (n, m): jnp.asarray(
                matrix[start[n] : start[n] + units[n], start[m] : start[m] + units[m]]
            )
            for n, m in combinations(units, 2)
        }


@record
class SampledPairs:
    """Shapley interactions (SII) of pairs across modalities, estimated without bias.

    ``SII_uw`` is the mean of ``D_uw(S) = v(S + u + w) - v(S + u) - v(S + w) + v(S)`` over contexts
    S that hold every other unit with probability t, t uniform on [0, 1]. Each sampled context is
    flipped in every unit and every pair, which gives one sample of ``D`` for all pairs at once; t
    is stratified. For any number of units.

    Attributes:
      intervention: the units and the mask distribution.
      samples: contexts, at least 2.
      confidence: of the intervals of :meth:`estimate`.
      chunk: contexts computed at once (each is one batch of flips).
    """

    intervention: Intervention
    samples: int = static(default=64)
    confidence: float = static(default=0.95)
    chunk: int | None = static(default=1)

    def __post_init__(self) -> None:
        """Refuses settings without an interval."""
        if self.samples < 2:
            raise InputError("samples", f"is {self.samples}", "use at least 2 contexts")
        if not 0 < self.confidence < 1:
            raise InputError("confidence", f"is {self.confidence}", "use a number in (0, 1)")

    @property
    def evaluations(self) -> int:
        """Model evaluations: samples times (1 + units + pairs across modalities)."""
        units = list(self.intervention.units.values())
        pairs = sum(a * b for a, b in combinations(units, 2))
        return self.samples * (1 + sum(units) + pairs) * self.intervention.draws

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None
    ) -> PairScores:
        """Scores ``{(n, m): [units_n, units_m]}`` of one example for one target."""
        return self.estimate(model, inputs, target, key)[0]

    def estimate(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None
    ) -> tuple[PairScores, PairScores]:
        """Scores and the half-widths of their normal confidence intervals.

        Raises:
          InputError: no key.
        """
        if key is None:
            raise InputError("key", "is None", "a sampler needs one: jax.random.key(0)")
        units = self.intervention.units
        total = sum(units.values())
        start = _starts(units)
        across = [
            (start[n] + u, start[m] + w)
            for n, m in combinations(units, 2)
            for u in range(units[n])
            for w in range(units[m])
        ]
        first, second = jnp.array(across).T

        def play(gate: Array) -> Array:
            return value(self.intervention, model, inputs, target, unflatten(gate, units))

        def context(index: Array) -> tuple[Array, Array]:
            level, draw = jax.random.split(derive_key(key, "contexts", index))
            t = (index + jax.random.uniform(level)) / self.samples
            gate = jax.random.uniform(draw, (total,)) < t
            flips = jnp.eye(total, dtype=bool)
            base = play(gate)
            single = map_stacked(lambda f: play(gate ^ f), flips)
            double = map_stacked(lambda i, j: play(gate ^ flips[i] ^ flips[j]), first, second)
            sign = jnp.where(gate[first] == gate[second], 1.0, -1.0)
            derivative = sign * (base - single[first] - single[second] + double)
            return derivative, derivative**2

        sums, squares = accumulate(context, self.samples, self.chunk)
        mean = sums / self.samples
        spread = jnp.maximum(squares / self.samples - mean**2, 0.0) / (self.samples - 1)
        width = float(stats.norm.ppf((1 + self.confidence) / 2)) * jnp.sqrt(spread)
        return _by_pair(mean, units), _by_pair(width, units)


@record
class ProductPairs:
    """Pairs of an explanation of units: the score of (u, w) is the product of theirs, normalised.

    ``s_u s_w / sqrt(sum |s_n| sum |s_m|)``. With :class:`~mmx_jax.interactions.DIME` as
    explainer these are the pairs of DIME's interaction part, whose scores say which units of
    either modality take part in interactions. A product can't tell which partner belongs to
    which when there are several: that is its known blindness.

    Attributes:
      explainer: scores the units.
    """

    explainer: Explainer

    @property
    def evaluations(self) -> int:
        """Model evaluations per explanation: the explainer's."""
        return self.explainer.evaluations

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> PairScores:
        """Scores ``{(n, m): [units_n, units_m]}`` of one example for one target."""
        scores: Any = self.explainer(model, inputs, target, key)
        mass = {n: jnp.sum(jnp.abs(s)) for n, s in scores.items()}
        return {
            (n, m): safe_divide(
                jnp.outer(scores[n], scores[m]), jnp.sqrt(mass[n] * mass[m]), otherwise=0.0
            )
            for n, m in combinations(sorted(scores), 2)
        }


def _starts(units: dict[str, int]) -> dict[str, int]:
    out, at = {}, 0
    for name, count in units.items():
        out[name] = at
        at += count
    return out


def _by_pair(flat: Float[Array, "pairs"], units: dict[str, int]) -> PairScores:
    out, at = {}, 0
    for n, m in combinations(units, 2):
        size = units[n] * units[m]
        out[n, m] = flat[at : at + size].reshape(units[n], units[m])
        at += size
    return out
