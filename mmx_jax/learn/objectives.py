"""What an explainer is trained on: losses of one example as a callable pytree."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mmx_jax.learn.losses import Demands, desiderata_losses
from mmx_jax.learn.stability import stability_losses
from mmx_jax.typing import (
    Inputs,
    Intervention,
    Model,
    Outputs,
    PRNGKey,
    record,
    static,
)

Network = Any
"""A module ``(inputs, target) -> scores``."""

__all__ = ["DESIDERATA_WEIGHTS", "Desiderata"]

DESIDERATA_WEIGHTS = (
    ("under_own", 1.0),
    ("over_own", 1.0),
    ("under_cross", 1.0),
    ("over_cross", 1.0),
    ("coalitions", 10.0),
    ("efficiency", 10.0),
    ("sufficiency", 0.3),
    ("necessity", 0.3),
    ("jacobian", 0.003),
    ("ball", 0.1),
    ("path", 0.1),
)


@record
class Desiderata:
    """The three desiderata, see :mod:`mmx_jax.learn.losses` and :mod:`mmx_jax.learn.stability`.

    Attributes:
      intervention: what removing a unit means.
      model: the model that is explained.
      spread: the range R of v.
      demands: constants of desiderata I and II.
      slope: slopes of the explanation up to this cost nothing, of R per unit of the data.
      radius: of the ball, relative to the data's norm.
      thinning: stability is measured on one of so many rows.
    """

    intervention: Intervention
    model: Model
    spread: Float[Array, ""]
    demands: Demands = static(default=Demands())
    slope: float = static(default=1.0)
    radius: float = static(default=0.1)
    thinning: int = static(default=4)

    def outputs(self, inputs: Inputs) -> Outputs:
        """The model's outputs, which choose targets."""
        return self.model(inputs)

    def __call__(
        self,
        network: Network,
        inputs: Inputs,
        labels: Int[Array, "batch"],
        targets: Int[Array, "batch"],
        keys: Key[Array, "batch"],
    ) -> dict[str, Float[Array, ""]]:
        """Mean losses of a batch by name; the labels are not used.

        Stability is measured on a share of the rows, because it costs as much as all the rest.
        """
        some = -(-targets.shape[0] // self.thinning)

        def judged(x: Inputs, target: Array, key: PRNGKey) -> dict[str, Array]:
            return desiderata_losses(
                lambda row: network(row, target),
                self.intervention,
                self.model,
                x,
                target,
                key,
                self.spread,
                self.demands,
            )

        def moved(x: Inputs, other: Inputs, target: Array, key: PRNGKey) -> dict[str, Array]:
            return stability_losses(
                lambda row: network(row, target),
                x,
                other,
                jax.random.fold_in(key, 1),
                self.spread,
                self.slope,
                self.radius,
            )

        first, others, goals, draws = jax.tree.map(
            lambda x: x[:some], (inputs, jax.tree.map(_next, inputs), targets, keys)
        )
        losses = jax.vmap(judged)(inputs, targets, keys)
        losses |= jax.vmap(moved)(first, others, goals, draws)
        return jax.tree.map(jnp.mean, losses)


def _next(rows: Array) -> Array:
    return jnp.roll(rows, 1, 0)
