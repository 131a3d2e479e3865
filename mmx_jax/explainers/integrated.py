"""Path explainers: integrated and expected gradients, which share a difference out completely.

Paths run straight in input space from the reference ``x'`` to ``x``, entry by entry (for an edge
gated by two nodes this is not the diagonal of gates). Integer leaves, entries that no unit gates
and inputs that are no modality here keep their values on the whole path, so completeness reads
``sum_u E_u = v(x) - v(x')`` with these unchanged in x'. With a marginal reference every draw is a
path of its own and scores are averaged over them, all modalities taking the same draw.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mmx_jax.checks import check_modalities
from mmx_jax.errors import UnknownNameError
from mmx_jax.explainers.base import (
    baselines,
    check_at_least,
    check_key,
    check_real,
    draws_of,
    gradient,
    reduce,
)
from mmx_jax.explainers.sampling import marks, uniform
from mmx_jax.mapping import accumulate, mean_over
from mmx_jax.modality import Modality
from mmx_jax.model import pick
from mmx_jax.numerics import combine, partition
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["ExpectedGradients", "IntegratedGradients"]


@record
class IntegratedGradients:
    """Gradients integrated along the straight path from the reference.

    ``E_u = sum_{i in u} (x_i - x'_i) int_0^1 dv/dx_i (x' + a (x - x')) da``; Sundararajan, Taly
    and Yan, *Axiomatic Attribution for Deep Networks* (2017).

    Args:
      modalities: what is explained; other inputs stay as they are.
      steps: gradients per path.
      rule: ``"gauss-legendre"`` is exact for polynomials of degree ``2 steps - 1`` and needs far
        fewer steps on smooth models; ``"riemann"`` takes midpoints, whose error falls with steps
        squared (with end points it would fall with steps only).
      chunk: gradients computed at once.

    Raises:
      InputError: too few steps or an unknown rule; when called on a modality that holds only
        integers.

    >>> model = lambda inputs: jnp.stack([inputs["x"][0] * inputs["x"][1]])
    >>> explain = IntegratedGradients({"x": Modality.columns(2)}, steps=8)
    >>> [round(float(s), 4) for s in explain(model, {"x": jnp.array([2.0, 3.0])}, 0)["x"]]
    [3.0, 3.0]
    """

    modalities: dict[str, Modality]
    steps: int = static(default=64)
    rule: str = static(default="gauss-legendre")
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, steps=self.steps, chunk=self.chunk)
        if self.rule not in ("riemann", "gauss-legendre"):
            raise UnknownNameError("rule", self.rule, ["riemann", "gauss-legendre"])

    @property
    def evaluations(self) -> int:
        """One gradient per step and reference draw."""
        return self.steps * draws_of(self.modalities)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        check_real("IntegratedGradients", self.modalities, inputs)
        real, slope = gradient(self.modalities, model, inputs, target)
        nodes, weights = (jnp.asarray(a) for a in _quadrature(self.rule, self.steps))
        draws, start_at = draws_of(self.modalities), baselines(self.modalities, inputs)

        def term(index: Array) -> PyTree:
            start = start_at(index // self.steps)
            step = index % self.steps
            return _along(slope, start, real, nodes[step], weights[step] / draws)

        return reduce(self.modalities, accumulate(term, draws * self.steps, self.chunk))

    def completeness_residual(
        self, model: Model, inputs: Inputs, target: Target, scores: Scores
    ) -> Float[Array, ""]:
        """``sum of scores - (v(x) - v(x'))``: the error of the quadrature.

        Args:
          model: the model that was explained.
          inputs: of one example.
          target: the output that was explained.
          scores: the explanation of it.

        Returns:
          a signed scalar; it takes one model call, and one per reference draw.
        """
        rest = partition({name: inputs[name] for name in self.modalities})[1]
        start_at = baselines(self.modalities, inputs)

        def absent(draw: Array) -> Array:
            start = start_at(draw)
            return pick(model(inputs | combine(start, rest)), target)

        reference = mean_over(absent, draws_of(self.modalities), self.chunk)
        total = sum(jnp.sum(score) for score in scores.values())
        return total - (pick(model(inputs), target) - reference)


@record
class ExpectedGradients:
    """Integrated gradients in expectation over references and points of the path.

    ``E_u = E_{x' ~ D, a ~ U(0, 1)} sum_{i in u} (x_i - x'_i) dv/dx_i (x' + a (x - x'))``; Erion,
    Janizek, Sturmfels, Lundberg and Lee, *Improving performance of deep learning models with
    axiomatic attribution priors and expected gradients* (2021). D are the draws of a marginal
    reference (with a fixed reference only ``a`` is random).

    Args:
      modalities: what is explained; other inputs stay as they are.
      samples: pairs (x', a), each taking one gradient.
      chunk: gradients computed at once.

    Raises:
      InputError: no samples; when called without a key, or on a modality that holds only integers.
    """

    modalities: dict[str, Modality]
    samples: int = static(default=128)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, samples=self.samples, chunk=self.chunk)

    @property
    def evaluations(self) -> int:
        """One gradient per sample."""
        return self.samples

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        key = check_key("ExpectedGradients", key)
        check_real("ExpectedGradients", self.modalities, inputs)
        real, slope = gradient(self.modalities, model, inputs, target)
        drawn, draws = marks(key, 2), draws_of(self.modalities)
        start_at = baselines(self.modalities, inputs)

        def term(index: Array) -> PyTree:
            which, point = uniform(drawn(index))
            start = start_at((which * draws).astype(int))
            return _along(slope, start, real, point, jnp.ones((), jnp.float32))

        return reduce(self.modalities, mean_over(term, self.samples, self.chunk))


def _along(slope, start: PyTree, end: PyTree, point: Array, weight: Array) -> PyTree:
    """``weight * (end - start) * gradient`` at one point of the path."""
    moved = jax.tree.map(lambda a, b: a + point.astype(a.dtype) * (b - a), start, end)
    return jax.tree.map(
        lambda a, b, g: weight.astype(a.dtype) * (b - a) * g, start, end, slope(moved)
    )


def _quadrature(rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in (0, 1) and weights that sum to 1."""
    if rule == "riemann":
        return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2
