"""Gradient explainers: saliency, input x gradient, SmoothGrad.

``v(x) = f(x)[target]``. A unit's score is the *sum* over its entries, so that a fine and a coarse
division of the same data agree on totals. Entries that no unit gates get no score; an entry gated
by two units (an edge of two nodes) is shared between them. References are not used.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.explainers.base import check_at_least, check_key, check_real, gradient, reduce
from mmx_jax.mapping import mean_over
from mmx_jax.modality import Modality
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["InputXGradient", "Saliency", "SmoothGrad"]


@record
class Saliency:
    """Sum of absolute derivatives: ``E_u = sum_{i in u} |dv/dx_i|``.

    Simonyan, Vedaldi and Zisserman, *Deep Inside Convolutional Networks* (2013). Scores are never
    negative: they say how strongly v reacts to a unit, not what the unit adds to v.

    Args:
      modalities: what is explained; other inputs stay as they are.

    Raises:
      InputError: when called on a modality that holds only integers.

    >>> model = lambda inputs: jnp.stack([inputs["x"] @ jnp.array([1.0, -2.0, 3.0])])
    >>> explain = Saliency({"x": Modality(jnp.array([0, 0, 1]))})
    >>> explain(model, {"x": jnp.ones(3)}, 0)["x"].tolist()
    [3.0, 3.0]
    """

    modalities: dict[str, Modality]

    def __post_init__(self) -> None:
        """Checks the names."""
        check_modalities(self.modalities)

    @property
    def evaluations(self) -> int:
        """One gradient."""
        return 1

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        check_real("Saliency", self.modalities, inputs)
        real, slope = gradient(self.modalities, model, inputs, target)
        return reduce(self.modalities, jax.tree.map(jnp.abs, slope(real)))


@record
class InputXGradient:
    """Input times derivative: ``E_u = sum_{i in u} x_i dv/dx_i``.

    Shrikumar, Greenside, Shcherbina and Kundaje, *Not Just a Black Box* (2016). It is the first
    order estimate of removing a unit when the reference is zero, whatever reference is set here;
    for others use :class:`~mmx_jax.explainers.IntegratedGradients`.

    Args:
      modalities: what is explained; other inputs stay as they are.

    Raises:
      InputError: when called on a modality that holds only integers.
    """

    modalities: dict[str, Modality]

    def __post_init__(self) -> None:
        """Checks the names."""
        check_modalities(self.modalities)

    @property
    def evaluations(self) -> int:
        """One gradient."""
        return 1

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        check_real("InputXGradient", self.modalities, inputs)
        real, slope = gradient(self.modalities, model, inputs, target)
        return reduce(self.modalities, jax.tree.map(jnp.multiply, real, slope(real)))


@record
class SmoothGrad:
    """Saliency of the gradient averaged over noisy copies of the input.

    ``E_u = sum_{i in u} | 1/n sum_s dv/dx_i (x + e_s) |`` with ``e_s ~ N(0, sigma^2)`` and
    ``sigma = noise * (max x - min x)`` per leaf. Smilkov, Thorat, Kim, Viegas and Wattenberg,
    *SmoothGrad* (2017): gradients are averaged first, magnitudes taken after. With ``noise=0`` it
    equals :class:`Saliency`.

    Args:
      modalities: what is explained and shaken; other inputs stay as they are.
      samples: how many noisy copies (n).
      noise: standard deviation relative to the range of the data.
      chunk: model calls made at once.

    Raises:
      InputError: no samples or negative noise; when called without a key, or on a modality that
        holds only integers.
    """

    modalities: dict[str, Modality]
    samples: int = static(default=32)
    noise: float = static(default=0.15)
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names and settings."""
        check_modalities(self.modalities)
        check_at_least(1, samples=self.samples, chunk=self.chunk)
        if not self.noise >= 0:
            raise InputError("noise", f"is {self.noise}", "use 0 or a positive number")

    @property
    def evaluations(self) -> int:
        """One gradient per noisy copy."""
        return self.samples

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        key = check_key("SmoothGrad", key)
        check_real("SmoothGrad", self.modalities, inputs)
        real, slope = gradient(self.modalities, model, inputs, target)

        flat, rebuild = ravel_pytree(real)
        spread, _ = ravel_pytree(jax.tree.map(_range, real))

        def noisy(sample: Array) -> PyTree:
            # one draw for all leaves: every draw in the loop costs compile time
            drawn = jax.random.normal(jax.random.fold_in(key, sample), flat.shape, flat.dtype)
            return slope(rebuild(flat + self.noise * spread * drawn))

        mean = mean_over(noisy, self.samples, self.chunk)
        return reduce(self.modalities, jax.tree.map(jnp.abs, mean))


def _range(leaf: Array) -> Array:
    return jnp.broadcast_to(jnp.max(leaf) - jnp.min(leaf), leaf.shape)
