"""Layers that never lengthen a difference: the pieces of an explainer with a global certificate."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

__all__ = ["Contraction", "distinct", "largest_two", "max_min", "project_l1"]

MARGIN = 1e-5
"""Relative; rounding in float32 never lifts a layer above norm 1."""


class Contraction(nnx.Module):
    """``x -> (d x) W + b`` with ``||diag(d) W||_2 <= 1`` for every W.

    ``d_i = (sum_j |G_ij|)^(-1/2)`` with G the Gram matrix of the smaller side: the almost
    orthogonal layers of Prach and Lampert, *Almost-orthogonal layers for efficient
    general-purpose Lipschitz networks* (2022). No iteration, so the bound holds at every step.

    Args:
      size: of the inputs.
      dim: of the outputs.
      rngs: draws the weights.
    """

    def __init__(self, size: int, dim: int, rngs: nnx.Rngs):
        self.weight = nnx.Param(nnx.initializers.orthogonal()(rngs.params(), (size, dim)))
        self.bias = nnx.Param(jnp.zeros((dim,)))

    def matrix(self) -> Float[Array, "size dim"]:
        """The scaled weights; their spectral norm is at most 1."""
        w = self.weight[...]
        tall = w.shape[0] > w.shape[1]
        gram = jnp.abs(w.T @ w if tall else w @ w.T)
        scale = (1 - MARGIN) / jnp.sqrt(jnp.maximum(jnp.sum(gram, 1), 1e-12))
        return w * (scale[None, :] if tall else scale[:, None])

    def __call__(self, x: Float[Array, "*rows size"]) -> Float[Array, "*rows dim"]:
        """Applies the layer to the last axis."""
        return x @ self.matrix() + self.bias[...]


def max_min(x: Float[Array, "*rows dim"]) -> Float[Array, "*rows dim"]:
    """Sorts pairs of entries (GroupSort with groups of two; Anil et al. 2019): 1-Lipschitz.

    >>> max_min(jnp.array([1.0, 2.0, 4.0, 3.0])).tolist()
    [2.0, 1.0, 4.0, 3.0]
    """
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    sorted_ = jnp.stack([jnp.max(pairs, -1), jnp.min(pairs, -1)], -1)
    return sorted_.reshape(x.shape)


def largest_two(x: Float[Array, "units dim"]) -> Float[Array, "2*dim"]:
    """The two largest values of every column, 0 for a missing second; 1-Lipschitz, as sorting."""
    if x.shape[0] == 1:
        return jnp.concatenate([x[0], jnp.zeros_like(x[0])])
    return jax.lax.top_k(x.T, 2)[0].T.reshape(-1)


def distinct(x: Float[Array, "*rows K"]) -> Float[Array, "*rows K"]:
    """``relu(x_k - max(0, max_{j != k} x_j))``: at most one entry of a row is positive.

    Its Jacobian is a difference of two coordinates at most, of norm sqrt(2).

    >>> distinct(jnp.array([3.0, 1.0, -1.0])).tolist()
    [2.0, 0.0, 0.0]
    """
    count = x.shape[-1]
    others = jnp.where(jnp.eye(count, dtype=bool), 0.0, x[..., None, :])
    return jax.nn.relu(x - jax.nn.relu(jnp.max(others, -1)))


def project_l1(evidence: Float[Array, "units"], mass: Float[Array, ""]) -> Float[Array, "units"]:
    """The nearest point with ``||E||_1 <= |mass|`` to evidence >= 0, with the sign of the mass.

    Units with little evidence get exactly nothing (Duchi et al. 2008). As a function of both
    arguments it is 1-Lipschitz in L2: on k active units ``dE = (I - 11^T / k) de + 1 dm / k``, two
    orthogonal parts of norm at most ``||de||`` and ``|dm|``.

    >>> shares = project_l1(jnp.array([0.5, 0.1, 0.0]), jnp.array(-0.4))
    >>> [round(abs(float(share)), 4) for share in shares]
    [0.4, 0.0, 0.0]
    """
    budget = jnp.abs(mass)
    ranked = jnp.sort(evidence)[::-1]
    count = jnp.arange(1, evidence.shape[0] + 1)
    excess = (jnp.cumsum(ranked) - budget) / count
    active = jnp.sum(ranked > excess)
    threshold = jax.nn.relu(excess[jnp.maximum(active, 1) - 1])
    return jnp.sign(mass) * jax.nn.relu(evidence - threshold)
