"""Masks found by gradient ascent: extremal perturbations and GNNExplainer.

A mask is a soft gate per unit, so every leaf has to be real. Values are divided by
``|v(x) - v(all at reference)|``, so that penalties mean the same for models of any scale. Scores
lie in [0, 1]: they rank units and do not measure effects.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mmx_jax import gates as gt
from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.explainers.base import calls, check_at_least, check_real, feature_gates, units_of
from mmx_jax.intervention import FeatureGates, value
from mmx_jax.mapping import map_stacked, mean_over
from mmx_jax.modality import Modality
from mmx_jax.model import pick
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["ExtremalPerturbation", "GNNExplainer"]


@record
class ExtremalPerturbation:
    """The mask of a given area that keeps the value highest, averaged over several areas.

    ``m_a = argmax_m v(x under m) / scale - penalty * mean_u (sort(m)_u - r_a,u)^2`` where r_a has
    ``a n`` ones after zeros; Fong, Patrick and Vedaldi, *Understanding Deep Networks via Extremal
    Perturbations and Smooth Masks* (2019). Sorting makes the area a vectorised penalty. Its weight
    grows linearly from 0, so that units drop out in the order of their worth. The mask itself is
    moved, by gradient steps with momentum clipped to [0, 1]: steps keep the size of slopes. Units
    of all modalities share one area. There is no smoothing: units are coarse already.

    Args:
      modalities: what is explained, real data only; other inputs stay as they are.
      areas: shares of the units that are kept; scores are the mean of the masks, so that units
        that are needed first score highest.
      steps: gradient steps per area.
      penalty: final weight of the area constraint.
      learning_rate: of the mask, times the number of units.
      chunk: gradients computed at once (areas times reference draws).

    Raises:
      InputError: an area outside (0, 1), too few steps; when called on integer data.
    """

    modalities: dict[str, Modality]
    areas: tuple[float, ...] = static(default=(0.1, 0.2, 0.4))
    steps: int = static(default=200)
    penalty: float = static(default=20.0)
    learning_rate: float = static(default=0.01)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, steps=self.steps, chunk=self.chunk)
        _check_positive(penalty=self.penalty, learning_rate=self.learning_rate)
        if not self.areas or not all(0 < area < 1 for area in self.areas):
            raise InputError("areas", f"is {self.areas}", "give shares between 0 and 1")

    @property
    def evaluations(self) -> int:
        """A gradient per step, area and draw; the intact value and the reference for the scale."""
        return 1 + calls(self.modalities, 1 + self.steps * len(self.areas))

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        check_real("ExtremalPerturbation", self.modalities, inputs, every_leaf=True)
        slope = _slope(self.modalities, model, inputs, target, self.chunk)
        units = units_of(self.modalities)
        n = sum(units.values())

        def learned(area: Array) -> Array:
            # the unit at the border of the area may be part open
            template = jnp.clip(jnp.arange(n) + 1 - n * (1 - area), 0, 1)

            def ascent(mask: Array, progress: Array) -> Array:
                pull = 2 / n * (mask - _by_rank(template, mask))
                return slope(mask) - self.penalty * progress * pull

            rate = optax.sgd(self.learning_rate * n, momentum=0.9)
            return _ascend(ascent, rate, jnp.full((n,), 0.5), self.steps, _clip)

        masks = map_stacked(learned, jnp.asarray(self.areas, jnp.float32), chunk=self.chunk)
        return gt.unflatten(jnp.mean(masks, 0), units)


@record
class GNNExplainer:
    """The smallest sharp mask of nodes or edges that keeps the value.

    ``m = argmax_m v(x under m) / scale - size * sum_u m_u - entropy * mean_u H(m_u)`` with the
    binary entropy H; Ying, Bourgeois, You, Zitnik and Leskovec, *GNNExplainer* (2019). With a
    model whose outputs are log-probabilities v is their mutual information objective. The mask is
    over whatever the units are: edges with ``Modality.edges``, nodes with ``Modality.nodes``
    (whose gate also closes their edges).

    Args:
      modalities: what is explained, real data only; other inputs stay as they are.
      steps: gradient steps (Adam on theta, masks are ``sigmoid(theta)``).
      size: price of one unit, as a share of the whole effect.
      entropy: price of undecided gates.
      learning_rate: of Adam.
      chunk: gradients computed at once (reference draws).

    Raises:
      InputError: too few steps or negative prices; when called on integer data.
    """

    modalities: dict[str, Modality]
    steps: int = static(default=200)
    size: float = static(default=0.02)
    entropy: float = static(default=0.1)
    learning_rate: float = static(default=0.1)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, steps=self.steps, chunk=self.chunk)
        _check_positive(learning_rate=self.learning_rate)
        if self.size < 0 or self.entropy < 0:
            raise InputError(
                "size and entropy", f"are {self.size}, {self.entropy}", "use no negative numbers"
            )

    @property
    def evaluations(self) -> int:
        """A gradient per step and draw; the intact value and the reference for the scale."""
        return 1 + calls(self.modalities, 1 + self.steps)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        check_real("GNNExplainer", self.modalities, inputs, every_leaf=True)
        slope = _slope(self.modalities, model, inputs, target, self.chunk)
        units = units_of(self.modalities)

        def price(mask: Array) -> Array:
            undecided = jnp.mean(jax.scipy.special.entr(mask) + jax.scipy.special.entr(1 - mask))
            return self.size * jnp.sum(mask) + self.entropy * undecided

        def ascent(theta: Array, progress: Array) -> Array:
            mask, pull = jax.vjp(jax.nn.sigmoid, theta)
            return pull(slope(mask) - jax.grad(price)(mask))[0]

        start = jnp.zeros((sum(units.values()),))
        theta = _ascend(ascent, optax.adam(self.learning_rate), start, self.steps)
        return gt.unflatten(jax.nn.sigmoid(theta), units)


def _check_positive(**settings: float) -> None:
    for name, setting in settings.items():
        if not setting > 0:
            raise InputError(name, f"is {setting}", "use a positive number")


def _by_rank(template: Float[Array, "players"], mask: Float[Array, "players"]) -> Array:
    """The entry of the ascending template for the rank of each player.

    Tied players share the mean of their entries, where a sort would favour some by their index.
    """
    low = jnp.sum(mask[None, :] < mask[:, None], axis=1)
    high = low + jnp.sum(mask[None, :] == mask[:, None], axis=1)
    upto = jnp.concatenate([jnp.zeros((1,), template.dtype), jnp.cumsum(template)])
    return (upto[high] - upto[low]) / (high - low)


def _slope(
    modalities: dict[str, Modality],
    model: Model,
    inputs: Inputs,
    target: Target,
    chunk: int | None,
) -> Callable[[Float[Array, "players"]], Float[Array, "players"]]:
    """The gradient of the scaled value in the mask, the mean over reference draws."""
    units, (gated, _) = units_of(modalities), feature_gates(modalities, chunk)
    closed = value(gated, model, inputs, target, gt.full(units, False))
    effect = jnp.abs(pick(model(inputs), target) - closed)
    scale = jnp.where(effect > 0, effect, 1.0)

    def slope(mask: Array) -> Array:
        def one(draw: Array) -> Array:
            def kept(mask: Array) -> Array:
                blended = FeatureGates(modalities).blend(inputs, gt.unflatten(mask, units), draw)
                return pick(model(blended), target)

            return jax.grad(kept)(mask)

        return mean_over(one, gated.draws, chunk) / scale

    return slope


def _ascend(
    ascent: Callable[[Array, Array], Array],
    optimiser: optax.GradientTransformation,
    start: Float[Array, "players"],
    steps: int,
    project: Callable[[Array], Array] = lambda point: point,
) -> Float[Array, "players"]:
    """The point after ``steps`` along ``ascent(point, progress)``, progress from 0 to 1."""

    def step(state: tuple[Any, Any, Any], _: None) -> tuple[tuple[Any, Any, Any], None]:
        point, moments, count = state
        updates, moments = optimiser.update(-ascent(point, count / steps), moments)
        moved: Any = optax.apply_updates(point, updates)
        return (project(moved), moments, count + 1), None

    state = (start, optimiser.init(start), jnp.zeros((), jnp.int32))
    (point, _, _), _ = jax.lax.scan(step, state, None, length=steps)
    return point


def _clip(mask: Float[Array, "players"]) -> Float[Array, "players"]:
    return jnp.clip(mask, 0.0, 1.0)
