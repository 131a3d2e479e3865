"""Published objectives of amortised explainers, as configurations of the same trainer.

They are baselines: one game over all units (FastSHAP) claims cross-modal credit for a modality that
does nothing by itself, and normalised masses (CXPlain) follow no effect.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mmx_jax.gates import flatten, unflatten
from mmx_jax.intervention import value
from mmx_jax.learn.evidence import coalition
from mmx_jax.mapping import map_stacked
from mmx_jax.numerics import safe_divide
from mmx_jax.typing import (
    Inputs,
    Intervention,
    Model,
    Outputs,
    PRNGKey,
    Scores,
    Target,
    record,
    static,
)

__all__ = ["CXPlain", "FastSHAP"]

Explain = Callable[[Inputs], Scores]


def _values(
    intervention: Intervention, model: Model, inputs: Inputs, target: Target, gates: Array
) -> Float[Array, "rows"]:
    """Values under flat hard gates ``[rows, all units]``, constants of a loss."""
    units = intervention.units

    def under(gate: Array) -> Array:
        return value(intervention, model, inputs, target, unflatten(gate, units))

    return jax.lax.stop_gradient(map_stacked(under, gates))


@record
class FastSHAP:
    """Shapley values of one game over all units (Jethani et al., *FastSHAP*, 2022).

    ``fastshap``: ``(sum_{u in S} E_u - (v(S) - v(nothing)))^2 / R^2`` over sets drawn from the
    Shapley kernel, each with its complement. ``efficiency``: the same for all units, the paper's
    penalty where scores are not normalised by model calls afterwards.

    Attributes:
      intervention: what removing a unit means.
      model: the model that is explained.
      spread: the range R of v.
      pairs: drawn sets per example.
    """

    intervention: Intervention
    model: Model
    spread: Float[Array, ""]
    pairs: int = static(default=4)

    def outputs(self, inputs: Inputs) -> Outputs:
        """The model's outputs, which choose targets."""
        return self.model(inputs)

    def __call__(
        self,
        network: Any,
        inputs: Inputs,
        labels: Int[Array, "batch"],
        targets: Int[Array, "batch"],
        keys: Key[Array, "batch"],
    ) -> dict[str, Float[Array, ""]]:
        """Mean losses of a batch by name; the labels are not used."""
        count = sum(self.intervention.units.values())

        def one(x: Inputs, target: Array, key: PRNGKey) -> dict[str, Array]:
            drawn = jax.vmap(lambda k: coalition(k, count))(jax.random.split(key, self.pairs))
            ends = jnp.stack([jnp.zeros(count, bool), jnp.ones(count, bool)])
            sets = jnp.concatenate([ends, drawn, ~drawn])
            v = _values(self.intervention, self.model, x, target, sets)
            scores = flatten(network(x, target))
            missed = (sets.astype(scores.dtype) @ scores - (v - v[0])) / self.spread
            return {"fastshap": jnp.mean(missed[2:] ** 2), "efficiency": missed[1] ** 2}

        return jax.tree.map(jnp.mean, jax.vmap(one)(inputs, targets, keys))


@record
class CXPlain:
    """Shares of what removing each unit does (Schwab and Karlen, *CXPlain*, 2019).

    ``cxplain = KL(w || |E| / sum |E|)`` with ``w_u = |v(x) - v(x_-u)|``, normalised over all
    units; 0 where no unit has an effect alone. The paper measures effects on a supervised loss,
    here it is the explained output.

    Attributes:
      intervention: what removing a unit means.
      model: the model that is explained.
    """

    intervention: Intervention
    model: Model

    def outputs(self, inputs: Inputs) -> Outputs:
        """The model's outputs, which choose targets."""
        return self.model(inputs)

    def __call__(
        self,
        network: Any,
        inputs: Inputs,
        labels: Int[Array, "batch"],
        targets: Int[Array, "batch"],
        keys: Key[Array, "batch"],
    ) -> dict[str, Float[Array, ""]]:
        """Mean loss of a batch; labels and keys are not used."""
        count = sum(self.intervention.units.values())
        gates = jnp.concatenate([jnp.ones((1, count), bool), ~jnp.eye(count, dtype=bool)])

        def one(x: Inputs, target: Array) -> dict[str, Array]:
            v = _values(self.intervention, self.model, x, target, gates)
            effect = jnp.abs(v[0] - v[1:])
            wanted = safe_divide(effect, jnp.sum(effect), 0.0)
            size = jnp.abs(flatten(network(x, target))) + 1e-6
            log_ratio = jnp.log(jnp.maximum(wanted, 1e-12)) - jnp.log(size / jnp.sum(size))
            return {"cxplain": jnp.sum(wanted * log_ratio)}

        return jax.tree.map(jnp.mean, jax.vmap(one)(inputs, targets))
