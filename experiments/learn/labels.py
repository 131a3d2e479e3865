"""What is explained on the data of L2X and INVASE: exact probabilities, and networks on labels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import mmx_jax as mmx
from mmx_jax.learn.selectors import Perceptron
from mmx_jax.models import Resample, train

__all__ = ["Exact", "Gaussian", "predictor"]


@mmx.record
class Exact:
    """The exact probabilities of one of L2X's data."""

    name: str = mmx.static()

    def __call__(self, inputs: Any) -> jax.Array:
        """Both probabilities of one example."""
        x = inputs["x"]
        if self.name == "XOR":
            log_odds = x[0] * x[1]
        elif self.name == "orange":
            log_odds = jnp.sum(x[:4] ** 2) - 4
        else:
            waves = -100 * jnp.sin(0.2 * x[0]) + jnp.abs(x[1]) + x[2]
            log_odds = waves + jnp.exp(-x[3]) - 2.4
        return jax.nn.softmax(jnp.stack([log_odds, jnp.zeros(())]))


@mmx.record
class Gaussian:
    """A sampler of ten normal columns; the labels are not used."""

    def __call__(self, key: Any, n: int) -> Any:
        """Inputs and labels."""
        return {"x": jax.random.normal(key, (n, 10))}, jnp.zeros(n, jnp.int32)


class Columns(nnx.Module):
    """A network on one table."""

    def __init__(self, size: int, rngs: nnx.Rngs):
        self.net = Perceptron(size, 12, 2, "relu", rngs)

    def __call__(self, inputs: Any) -> jax.Array:
        """Log-odds of one example."""
        return self.net(inputs["x"])


@mmx.record
class Ensemble:
    """The probabilities of networks that were trained apart, by their mean log-odds."""

    members: list[Any]

    def __call__(self, inputs: Any) -> jax.Array:
        """Both probabilities of one example."""
        return jax.nn.softmax(jnp.mean(jnp.stack([net(inputs) for net in self.members]), 0))


def predictor(x: np.ndarray, y: np.ndarray, seed: int, quick: bool) -> Ensemble:
    """Sixteen narrow networks trained on hard labels: wide ones, or one, fit the noise of the rows.

    Args:
      x: all rows; the first tenth is held out.
      y: their labels.
      seed: of weights and batches.
      quick: two networks, few steps.
    """
    cut, labels = len(x) // 10, jnp.asarray(y, jnp.int32)
    rows = jnp.asarray(x, jnp.float32)
    sample, held = Resample({"x": rows[cut:]}, labels[cut:]), ({"x": rows[:cut]}, labels[:cut])
    members = []
    for i in range(2 if quick else 16):
        one, net = 100 * seed + i, Columns(x.shape[1], nnx.Rngs(100 * seed + i))
        net, _ = train(net, sample, held, steps=100 if quick else 3600, batch=256, seed=one)
        members.append(mmx.as_model(net))
    return Ensemble(members)
