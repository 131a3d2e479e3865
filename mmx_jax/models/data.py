"""Around training: batches of arrays to train on, its history, and accuracy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mmx_jax.errors import InputError
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import map_examples
from mmx_jax.typing import Inputs, Model, PRNGKey, record, static

__all__ = ["History", "Incomplete", "Resample", "accuracy"]


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


@record
class Incomplete:
    """Another sampler's examples with units removed at random, the labels unchanged.

    A model trained on them says of incomplete inputs what it has learned of them, rather than
    whatever lies off its data: where references can be told from data, probabilities under sets of
    units tend to conditional ones (Frye et al., *Shapley explainability on the data manifold*,
    2021). On half of the examples each unit is removed with a probability that is drawn for the
    example from 0 to 1. On all of them each modality is removed as a whole with the probability
    ``modality``.

    Attributes:
      gates: what removing a unit means; of several reference draws each example takes one.
      sample: ``sample(key, n)``, a callable pytree whose result begins with inputs and labels.
      modality: the probability that a modality is missing altogether.
    """

    gates: FeatureGates
    sample: Callable[..., Any]
    modality: float = static(default=0.15)

    def __post_init__(self) -> None:
        """Raises where ``modality`` is no probability."""
        if not 0 <= self.modality <= 1:
            raise InputError("modality", f"is {self.modality}", "use a probability, 0 to 1")

    def __call__(self, key: PRNGKey, n: int) -> tuple[Inputs, Int[Array, "n"]]:
        """Inputs and labels of ``n`` examples."""
        for_data, for_rate, for_units, for_modalities, for_draw = jax.random.split(key, 5)
        inputs, labels = self.sample(for_data, n)[:2]
        drawn = jax.random.uniform(for_rate, (2, n))
        rate = jnp.where(drawn[0] < 0.5, drawn[1], 0.0)[:, None]
        kept = {}
        for i, (name, units) in enumerate(sorted(self.gates.units.items())):
            for_unit, for_all = (jax.random.fold_in(k, i) for k in (for_units, for_modalities))
            some = jax.random.uniform(for_unit, (n, units)) >= rate
            kept[name] = some & (jax.random.uniform(for_all, (n, 1)) >= self.modality)
        draws = jax.random.randint(for_draw, (n,), 0, self.gates.draws)
        return jax.vmap(self.gates.blend)(inputs, kept, draws), labels


def accuracy(model: Model, inputs: Inputs, labels: Any, chunk: int | None = None) -> float:
    """The share of examples (leading axis) whose largest output is the label."""
    outputs = map_examples(model, inputs, chunk=chunk)
    return float(np.mean(np.argmax(outputs, -1) == np.asarray(labels)))
