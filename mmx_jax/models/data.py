"""Around training: batches of arrays to train on, its history, and accuracy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mmx_jax.mapping import map_examples
from mmx_jax.typing import Inputs, Model, PRNGKey, record

__all__ = ["History", "Resample", "accuracy"]


class History(NamedTuple):
    """Loss of every step ``[steps]`` and held-out accuracy after every block ``[blocks]``."""

    loss: np.ndarray
    accuracy: np.ndarray


@record
class Resample:
    """A sampler that draws rows, with replacement, from arrays with a leading axis of examples.

    >>> draw = Resample({"x": jnp.arange(3.0)}, jnp.array([0, 1, 2]))
    >>> inputs, labels = draw(jax.random.key(0), 5)
    >>> bool((inputs["x"] == labels).all())
    True
    """

    inputs: Inputs
    labels: Int[Array, "n"] | np.ndarray

    def __call__(self, key: PRNGKey, n: int) -> tuple[Inputs, Int[Array, "m"]]:
        """Inputs and labels of ``n`` rows."""
        rows = jax.random.randint(key, (n,), 0, self.labels.shape[0])
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], (self.inputs, self.labels))


def accuracy(model: Model, inputs: Inputs, labels: Any, chunk: int | None = None) -> float:
    """The share of examples (leading axis) whose largest output is the label."""
    outputs = map_examples(model, inputs, chunk=chunk)
    return float(np.mean(np.argmax(outputs, -1) == np.asarray(labels)))
