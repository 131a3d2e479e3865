"""Shapley values by random orders, for games too large to enumerate, and Owen's grouped values."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmx_jax import gates as gt
from mmx_jax.checks import check_modalities
from mmx_jax.explainers.base import calls, check_at_least, check_key, units_of
from mmx_jax.explainers.plans import Plan, chain_plan, concatenate, joint_sum, within_sums
from mmx_jax.explainers.sampling import chained, marks, places
from mmx_jax.games import memberships, shapley_coefficients
from mmx_jax.modality import Modality
from mmx_jax.numerics import derive_key
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["OwenShapley", "PermutationShapley"]


@record
class PermutationShapley:
    """Shapley values estimated from random orders of the units, each followed in both directions.

    ``E_u = mean over orders of v(before u, and u) - v(before u)``; Castro, Gomez and Tejada,
    *Polynomial calculation of the Shapley value based on sampling* (2009); antithetic orders:
    Mitchell, Cooper, Frank and Holmes, *Sampling Permutations for Shapley Value Estimation*
    (2022). Unbiased, and efficient for any number of samples: the scores sum to the value of the
    grand coalition less that of the empty one.

    Args:
      modalities: what is explained; other inputs stay as they are.
      pairs: orders drawn; each is also followed in reverse.
      within: False plays one game of the units of all modalities
        (:class:`~mmx_jax.explainers.ExactShapley`); True one game per modality with the others
        intact (:class:`~mmx_jax.explainers.WithinShapley`).
      chunk: model calls made at once.

    Raises:
      InputError: no pairs; when called without a key.
    """

    modalities: dict[str, Modality]
    pairs: int = static(default=16)
    within: bool = static(default=False)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, pairs=self.pairs, chunk=self.chunk)

    @property
    def evaluations(self) -> int:
        """Per game two ends and all inner coalitions of its orders, per reference draw."""
        units = units_of(self.modalities).values()
        games = units if self.within else [sum(units)]
        return calls(self.modalities, sum(_chain_rows(n, self.pairs) for n in games))

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        key = check_key("PermutationShapley", key)
        units = units_of(self.modalities)
        if self.within:
            plans = {n: self._plan(units[n], derive_key(key, n)) for n in units}
            return within_sums(self.modalities, plans, model, inputs, target, self.chunk)
        plan = self._plan(sum(units.values()), key)
        flat = joint_sum(self.modalities, plan, model, inputs, target, self.chunk)
        return gt.unflatten(flat, units)

    def _plan(self, players: int, key: PRNGKey) -> Plan:
        drawn = marks(key, players)
        return chain_plan(players, self.pairs, lambda i: places(drawn(i)))


def _chain_rows(players: int, pairs: int) -> int:
    return 2 + 2 * pairs * (players - 1)


@record
class OwenShapley:
    """Owen values: Shapley values on two levels, with the modalities as unions of their units.

    ``E_u = sum_{H of other modalities} |H|! (M-|H|-1)! / M! sum_{T of m without u} |T|!
    (n_m-|T|-1)! / n_m! (v(H + T + u) - v(H + T))`` for u in m; Owen, *Values of Games with a
    Priori Unions* (1977). The units of m share the Shapley value of m among the modalities
    (:class:`~mmx_jax.explainers.ModalityShapley`). Computed exactly where that takes no more
    calls than sampling, otherwise from random orders in which the units of a modality stay
    together, each followed in both directions.

    Args:
      modalities: the unions; other inputs stay as they are.
      pairs: orders drawn where sampling is cheaper.
      chunk: model calls made at once.

    Raises:
      InputError: no pairs; when it has to sample and is called without a key.
    """

    modalities: dict[str, Modality]
    pairs: int = static(default=16)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, pairs=self.pairs, chunk=self.chunk)

    @property
    def exact(self) -> bool:
        """Whether the values are enumerated, so that no key is needed."""
        return self._rows(True) <= self._rows(False)

    def _rows(self, exact: bool) -> int:
        units = units_of(self.modalities)
        if exact:
            return sum(1 << (len(units) - 1 + n) for n in units.values())
        return _chain_rows(sum(units.values()), self.pairs)

    @property
    def evaluations(self) -> int:
        """``sum_m 2^(M-1+n_m)`` where exact, otherwise as sampled; per reference draw."""
        return calls(self.modalities, self._rows(self.exact))

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        units = units_of(self.modalities)
        if self.exact:
            plan = concatenate([_owen_plan(name, units) for name in units])
        else:
            key = check_key("OwenShapley", key)
            unions = np.repeat(np.arange(len(units)), list(units.values()))
            drawn = marks(key, len(unions) + len(units))
            plan = chain_plan(len(unions), self.pairs, lambda i: chained(drawn(i), unions))
        flat = joint_sum(self.modalities, plan, model, inputs, target, self.chunk)
        return gt.unflatten(flat, units)


def _owen_plan(name: str, units: dict[str, int]) -> Plan:
    """The rows of one union: every set of its units after every set of the other unions."""
    own, others = units[name], [n for n in units if n != name]
    m = len(units)
    table = np.array([1 / (m * math.comb(m - 1, size)) for size in range(m)])

    def row(index: Array) -> tuple[Array, Array]:
        inner, outer = index % (1 << own), index >> own
        present = memberships(len(others), outer)
        gates = {n: jnp.broadcast_to(present[i], (units[n],)) for i, n in enumerate(others)}
        weights = {n: jnp.zeros((units[n],)) for n in others}
        share = jnp.asarray(table)[jnp.sum(present)] * shapley_coefficients(inner, own)
        return (
            gt.flatten(gates | {name: memberships(own, inner)}),
            gt.flatten(weights | {name: share}),
        )

    return Plan(1 << (m - 1 + own), row)
