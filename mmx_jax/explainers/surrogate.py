"""Linear surrogates of the joint game of all units: LIME and KernelSHAP.

Both fit ``v(z) ~ b + sum_u E_u z_u`` to gated values by weighted least squares, where z is a gate
over the units of all modalities. The normal matrix doesn't depend on the model: it is summed
first, and the values enter through one weighted sum.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array

from mmx_jax import gates as gt
from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.explainers.base import calls, check_at_least, check_key, units_of
from mmx_jax.explainers.plans import Plan, joint_sum
from mmx_jax.explainers.sampling import below, marks, places, uniform
from mmx_jax.games import memberships
from mmx_jax.mapping import accumulate
from mmx_jax.modality import Modality
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["LIME", "KernelSHAP"]


@record
class LIME:
    """Local linear model of random removals, nearby ones counting more.

    ``E = argmin_{E, b} sum_s pi(z_s) (v(z_s) - b - E z_s)^2 / sum_s pi(z_s) + ridge ||E||^2`` with
    ``z_s,u ~ Bernoulli(1/2)``, z_1 = 1, ``pi(z) = exp(-d(z)^2 / width^2)`` and the cosine distance
    ``d(z) = 1 - sqrt(|z| / n)``; Ribeiro, Singh and Guestrin, *Why Should I Trust You?* (2016), on
    all units, without their selection of features. Exact on models that are linear in the units,
    up to the ridge, where the samples tell the units apart (a few more samples than units) and the
    kernel is not so narrow that only z_1 counts.

    Args:
      modalities: what is explained; other inputs stay as they are.
      samples: gated values, at least one more than there are units.
      width: of the kernel.
      ridge: keeps the fit defined where samples leave it open.
      chunk: model calls made at once.

    Raises:
      InputError: too few samples, a width that isn't positive or a negative ridge; when called
        without a key.
    """

    modalities: dict[str, Modality]
    samples: int = static(default=512)
    width: float = static(default=0.25)
    ridge: float = static(default=1e-6)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(sum(units_of(self.modalities).values()) + 1, samples=self.samples)
        check_at_least(1, chunk=self.chunk)
        if not self.width > 0:
            raise InputError("width", f"is {self.width}", "use a positive number")
        if not self.ridge >= 0:
            raise InputError("ridge", f"is {self.ridge}", "use 0 or a positive number")

    @property
    def evaluations(self) -> int:
        """One call per sample and reference draw."""
        return calls(self.modalities, self.samples)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        key = check_key("LIME", key)
        units = units_of(self.modalities)
        n = sum(units.values())

        random = marks(key, n)

        def drawn(index: Array) -> tuple[Array, Array]:
            gate = below(random(index), 0.5) | (index == 0)
            distance = 1 - jnp.sqrt(jnp.mean(gate, dtype=jnp.float32))
            return gate, jnp.exp(-((distance / self.width) ** 2))

        def moments(index: Array) -> tuple[Array, Array, Array]:
            gate, near = drawn(index)
            z = gate.astype(near.dtype)
            return near, near * z, near * jnp.outer(z, z)

        mass, first, second = accumulate(moments, self.samples)
        centre = first / mass
        # centring z takes the intercept out of the fit, so that the ridge leaves it alone
        covariance = second / mass - jnp.outer(centre, centre) + self.ridge * jnp.eye(n)

        def row(index: Array) -> tuple[Array, Array]:
            gate, near = drawn(index)
            return gate, near / mass * (gate - centre)

        plan = Plan(self.samples, row)
        moment = joint_sum(self.modalities, plan, model, inputs, target, self.chunk)
        return gt.unflatten(cho_solve(cho_factor(covariance), moment), units)


@record
class KernelSHAP:
    """Shapley values of the joint game by weighted least squares.

    ``E = argmin sum_z w(z) (v(z) - v(0) - E z)^2`` subject to ``sum_u E_u = v(1) - v(0)``, with
    ``w(z) = (n - 1) / (C(n, |z|) |z| (n - |z|))``; Lundberg and Lee, *A Unified Approach to
    Interpreting Model Predictions* (2017). The constraint is solved exactly. If ``samples`` allow
    all ``2^n - 2`` coalitions, they are enumerated and the values are exact; otherwise those of
    sizes 1 and n - 1, which carry most weight, are all taken, and the rest is spent on random
    coalitions paired with their complements (Covert and Lee, *Improving KernelSHAP*, 2021).

    Args:
      modalities: what is explained; other inputs stay as they are.
      samples: coalitions between the empty and the full one; at least 2 n unless all fit.
      chunk: model calls made at once.

    Raises:
      InputError: too few samples; when it has to sample and is called without a key.
    """

    modalities: dict[str, Modality]
    samples: int = static(default=512)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, chunk=self.chunk)
        if not self.exact:
            check_at_least(2 * self._players, samples=self.samples)

    @property
    def _players(self) -> int:
        return sum(units_of(self.modalities).values())

    @property
    def exact(self) -> bool:
        """Whether all coalitions are enumerated, so that no key is needed."""
        return (1 << self._players) - 2 <= self.samples

    @property
    def _rows(self) -> int:
        n = self._players
        if self.exact:
            return (1 << n) - 2
        return 2 * n + (self.samples - 2 * n) // 2 * 2

    @property
    def evaluations(self) -> int:
        """The two ends and every coalition, per reference draw."""
        return calls(self.modalities, 2 + self._rows)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        n, inner = self._players, self._rows
        if self.exact:
            coalition = _enumerated(n)
        else:
            coalition = _paired(n, inner, check_key("KernelSHAP", key))

        def outer(index: Array) -> Array:
            gate, weight = coalition(index)
            z = gate.astype(weight.dtype)
            return weight * jnp.outer(z, z)

        # with a single unit there is no coalition between the ends, and the constraint decides
        normal = accumulate(outer, inner) if inner else jnp.eye(n)

        def row(index: Array) -> tuple[Array, Array]:
            gate, weight = coalition(jnp.maximum(index - 2, 0))
            one, zero = jnp.ones((1,), weight.dtype), jnp.zeros((1,), weight.dtype)
            weights = jnp.concatenate([weight * gate, zero])
            full = jnp.concatenate([jnp.zeros_like(weights[:n]), one])
            empty = jnp.concatenate([-jnp.diagonal(normal), -one])
            ends = jnp.where(index == 0, empty, full)
            return jnp.where(index < 2, index == 1, gate), jnp.where(index < 2, ends, weights)

        plan = Plan(2 + inner, row)
        sums = joint_sum(self.modalities, plan, model, inputs, target, self.chunk)
        moment, gain = sums[:n], sums[n]
        ones = jnp.ones_like(moment)
        free, unit = cho_solve(cho_factor(normal), jnp.stack([moment, ones], 1)).T
        phi = free - unit * (jnp.sum(free) - gain) / jnp.sum(unit)
        return gt.unflatten(phi, units_of(self.modalities))


Coalition = Callable[[Array], tuple[Array, Array]]
"""From the index of a coalition to its gate ``[units]`` and its weight."""


def _kernel(n: int) -> np.ndarray:
    """The weight of one coalition by its size, ``[n + 1]``; 0 at the ends, where it is infinite."""
    return np.array([0.0, *(_mass(n, s) / math.comb(n, s) for s in range(1, n)), 0.0])


def _mass(n: int, size: int) -> float:
    """The weight of all coalitions of a size together: no binomial, which outgrows a float."""
    return (n - 1) / (size * (n - size))


def _enumerated(n: int) -> Coalition:
    table = jnp.asarray(_kernel(n), jnp.float32)

    def coalition(index: Array) -> tuple[Array, Array]:
        gate = memberships(n, index + 1)
        return gate, table[jnp.sum(gate)]

    return coalition


def _paired(n: int, rows: int, key: PRNGKey) -> Coalition:
    """All coalitions of sizes 1 and n - 1, then random others, each beside its complement."""
    mass = np.array([_mass(n, s) for s in range(2, n - 1)])
    single, sampled = _mass(n, 1) / n, mass.sum() / max(rows - 2 * n, 1)
    drawn = marks(key, n + 1)
    upto = jnp.asarray(np.cumsum(mass)[:-1] / mass.sum(), jnp.float32)

    def coalition(index: Array) -> tuple[Array, Array]:
        pair, flip = index // 2, index % 2 == 1
        sample = drawn(pair)
        several = places(sample[:n]) < 2 + jnp.sum(uniform(sample[n]) >= upto)
        gate = jnp.where(index < 2 * n, jnp.arange(n) == pair, several) ^ flip
        return gate, jnp.where(index < 2 * n, single, sampled).astype(jnp.float32)

    return coalition
