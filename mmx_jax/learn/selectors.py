"""Published selectors of features as configurations of the same trainer: L2X and INVASE.

Both learn a selector and a predictor that sees only what was selected. L2X selects k units through
a relaxed choice, INVASE any number by policy gradient. Batch normalisation, which both releases
use, is left out (the trainer carries no state beside weights), and so is their penalty on weights.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.gates import unflatten
from mmx_jax.intervention import FeatureGates
from mmx_jax.learn.units import unit_rows
from mmx_jax.modality import Modality
from mmx_jax.numerics import is_inexact
from mmx_jax.typing import Inputs, Model, Outputs, PRNGKey, Scores, Target, record, static

__all__ = ["INVASE", "L2X", "SelectingNetwork"]


ACTIVATIONS = {"relu": jax.nn.relu, "selu": jax.nn.selu}


class Perceptron(nnx.Module):
    """Two hidden layers on a flat vector.

    Args:
      size: of the vector.
      dim: of the hidden layers.
      outputs: how many.
      activation: ``"relu"`` or ``"selu"``.
      rngs: draws the weights.
    """

    def __init__(self, size: int, dim: int, outputs: int, activation: str, rngs: nnx.Rngs):
        self.enter = nnx.Linear(size, dim, rngs=rngs)
        self.hidden = nnx.Linear(dim, dim, rngs=rngs)
        self.out = nnx.Linear(dim, outputs, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "size"]) -> Float[Array, "outputs"]:
        """Raw outputs."""
        act = ACTIVATIONS[self.activation]
        return self.out(act(self.hidden(act(self.enter(x)))))


class SelectingNetwork(nnx.Module):
    """A selector, whose probabilities are the scores, beside the predictors it is trained with.

    Args:
      modalities: by name, of real data.
      outputs: classes that are predicted.
      dim: of the hidden layers.
      predictor_dim: of those of the predictors; the same if None.
      activation: ``"relu"`` or ``"selu"``; both releases take one or the other, by data set.
      rngs: draws the weights.

    Raises:
      InputError: a width below 1, data that hold integers, or an unknown activation.
    """

    def __init__(
        self,
        modalities: dict[str, Modality],
        outputs: int,
        *,
        dim: int = 100,
        predictor_dim: int | None = None,
        activation: str = "selu",
        rngs: nnx.Rngs,
    ):
        check_modalities(modalities)
        if activation not in ACTIVATIONS:
            raise UnknownNameError("activation", activation, list(ACTIVATIONS))
        wide = dim if predictor_dim is None else predictor_dim
        if min(outputs, dim, wide) < 1:
            raise InputError(
                "outputs, dim, predictor_dim", f"are {outputs}, {dim}, {wide}", "use 1 or more"
            )
        for name, modality in modalities.items():
            if not all(is_inexact(x) for x in jax.tree.leaves(modality.reference_at(0))):
                raise InputError(f"modality {name!r}", "holds integers", "embed them first")
        self.units = tuple((n, modalities[n].units) for n in sorted(modalities))
        self.rows = tuple((n, unit_rows(modalities[n])) for n in sorted(modalities))
        size = sum(rows.units * rows.size for _, rows in self.rows)
        selected = sum(u for _, u in self.units)
        self.selector = Perceptron(size, dim, selected, activation, rngs)
        self.predictor = Perceptron(size, wide, outputs, activation, rngs)
        self.baseline = Perceptron(size, wide, outputs, activation, rngs)

    def flat(self, inputs: Inputs) -> Float[Array, "size"]:
        """All entries side by side."""
        return jnp.concatenate([jnp.ravel(rows.split(inputs[n])) for n, rows in self.rows])

    def logits(self, inputs: Inputs) -> Float[Array, "all_units"]:
        """Log-odds of selecting each unit."""
        return self.selector(self.flat(inputs))

    def __call__(self, inputs: Inputs, target: Target) -> Scores:
        """The probability that each unit is selected; the target plays no part."""
        return unflatten(jax.nn.sigmoid(self.logits(inputs)), dict(self.units))

    def predict(self, selected: Inputs) -> Float[Array, "outputs"]:
        """Log-odds of the classes from inputs whose other units stand at their reference."""
        return self.predictor(self.flat(selected))


def _cross_entropy(logits: Array, wanted: Float[Array, "outputs"]) -> Float[Array, ""]:
    return -jnp.sum(wanted * jax.nn.log_softmax(logits))


@record
class L2X:
    """The k units from which a predictor can tell the model's output best (Chen et al. 2018).

    ``l2x``: cross-entropy between the model's output and the prediction from the inputs under the
    gate ``max over k draws of softmax((logits + gumbel) / temperature)``.

    Attributes:
      intervention: what removing a unit means; floats only.
      model: from inputs to probabilities.
      k: units that are selected.
      temperature: of the relaxed choice.
    """

    intervention: FeatureGates
    model: Model
    k: int = static()
    temperature: float = static(default=0.1)

    def outputs(self, inputs: Inputs) -> Outputs:
        """The model's outputs."""
        return self.model(inputs)

    def __call__(
        self,
        network: SelectingNetwork,
        inputs: Inputs,
        labels: Int[Array, "batch"],
        targets: Int[Array, "batch"],
        keys: Key[Array, "batch"],
    ) -> dict[str, Float[Array, ""]]:
        """Mean loss of a batch; labels and targets are not used."""

        def one(x: Inputs, key: PRNGKey) -> Array:
            logits = jax.nn.log_softmax(network.logits(x))
            noise = jax.random.gumbel(key, (self.k, logits.shape[0]), jnp.float32)
            gate = jnp.max(jax.nn.softmax((logits + noise) / self.temperature, -1), 0)
            selected = self.intervention.blend(x, unflatten(gate, self.intervention.units))
            wanted = jax.lax.stop_gradient(self.model(x))
            return _cross_entropy(network.predict(selected), wanted)

        return {"l2x": jnp.mean(jax.vmap(one)(inputs, keys))}


@record
class INVASE:
    """As few units as predict the label nearly as well as all do (Yoon et al. 2019).

    With a selection s of independent units of probability p(x): ``predictor`` and ``baseline`` are
    the cross-entropies of the label given the selected inputs and given all of them; ``selector``
    is ``(predictor - baseline) log P(s | x)`` with the difference held constant; ``size`` is the
    mean of p, whose weight is the paper's lambda.

    Attributes:
      intervention: what removing a unit means.
      classes: how many labels there are.
    """

    intervention: FeatureGates
    classes: int = static(default=2)

    def outputs(self, inputs: Inputs) -> Outputs:
        """Nothing is explained but the labels."""
        return jnp.zeros((self.classes,))

    def __call__(
        self,
        network: SelectingNetwork,
        inputs: Inputs,
        labels: Int[Array, "batch"],
        targets: Int[Array, "batch"],
        keys: Key[Array, "batch"],
    ) -> dict[str, Float[Array, ""]]:
        """Mean losses of a batch; the targets are not used."""

        def one(x: Inputs, label: Array, key: PRNGKey) -> dict[str, Array]:
            logits, wanted = network.logits(x), jax.nn.one_hot(label, self.classes)
            chosen = jax.random.bernoulli(key, jax.nn.sigmoid(logits))
            selected = self.intervention.blend(x, unflatten(chosen, self.intervention.units))
            predictor = _cross_entropy(network.predict(selected), wanted)
            baseline = _cross_entropy(network.baseline(network.flat(x)), wanted)
            log_odds = jnp.where(chosen, logits, -logits)
            cost = jax.lax.stop_gradient(predictor - baseline)
            return {
                "predictor": predictor,
                "baseline": baseline,
                "selector": cost * jnp.sum(jax.nn.log_sigmoid(log_odds)),
                "size": jnp.mean(jax.nn.sigmoid(logits)),
            }

        return jax.tree.map(jnp.mean, jax.vmap(one)(inputs, labels, keys))
