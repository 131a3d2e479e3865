"""What an explainer is trained on: losses of one example as a callable pytree."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mmx_jax.learn.constraints import Balance
from mmx_jax.learn.evidence import Evidence, gather_all
from mmx_jax.learn.losses import (
    Demands,
    contribution_losses,
    explained_evidence,
    faithfulness_losses,
    granger_losses,
    stray_loss,
)
from mmx_jax.learn.stability import stability_losses
from mmx_jax.typing import (
    Inputs,
    Intervention,
    Model,
    Outputs,
    PRNGKey,
    Scores,
    record,
    static,
)

Network = Any
"""A module ``(inputs, target) -> scores``."""

__all__ = ["DESIDERATA_WEIGHTS", "Desiderata", "Pool", "constrained", "gather_pool", "weighed"]

DESIDERATA_WEIGHTS = (
    ("under_own", 1.0),
    ("over_own", 1.0),
    ("under_cross", 1.0),
    ("over_cross", 1.0),
    ("coalitions", 10.0),
    ("efficiency", 10.0),
    ("sufficiency", 0.3),
    ("necessity", 0.3),
    ("stray", 0.1),
    ("jacobian", 0.003),
    ("ball", 0.3),
    ("path", 0.1),
)

LATE = ("sufficiency", "necessity")
"""They rank units by magnitude, so that a unit whose sign is wrong at first can't pass zero: below
the others it would fail them. The signs must have formed before."""

LIMITED = ("under", "over", "sufficiency", "necessity", "stray", "ball", "path")
"""The beginnings of the names of losses that are zero where a constant is met."""


def weighed(weights: tuple[tuple[str, float], ...] = DESIDERATA_WEIGHTS) -> Balance:
    """Fixed weights of the desiderata, those that rank units coming late."""
    return Balance(weights, late=LATE)


def constrained(tolerance: float) -> Balance:
    """The demands as limits, what is left as weights: an augmented Lagrangian.

    Args:
      tolerance: the largest mean excess over a constant that still counts as met, of R.
    """
    free = [(n, w) for n, w in DESIDERATA_WEIGHTS if not n.startswith(LIMITED)]
    limits = [(n, tolerance) for n, _ in DESIDERATA_WEIGHTS if n.startswith(LIMITED)]
    return Balance(tuple(free), tuple(limits), penalty=20.0, rate=0.5, bound=20.0, late=LATE)


@record
class Pool:
    """A fixed set of examples with what the model says of them, as a sampler of its rows.

    Where the model is costly, most of a step goes into its values under sets of units; here they
    are gathered once. Rows come with their number in the place of a label, which tells
    :class:`Desiderata` their evidence and target.

    Attributes:
      inputs: ``[rows, ...]``.
      targets: ``[rows]``.
      evidence: of each row.
    """

    inputs: Inputs
    targets: Int[Array, "rows"]
    evidence: Evidence

    def __call__(self, key: PRNGKey, n: int) -> tuple[Inputs, Int[Array, "n"]]:
        """Inputs and numbers of ``n`` rows."""
        rows = jax.random.randint(key, (n,), 0, self.targets.shape[0])
        return jax.tree.map(lambda leaf: leaf[rows], self.inputs), rows


def gather_pool(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    targets: Any,
    key: PRNGKey,
    pairs: int = 4,
) -> Pool:
    """Evaluates the model on examples once, under ``pairs`` drawn sets and their complements."""
    count = len(jax.tree.leaves(inputs)[0])
    keys = jax.random.split(key, count)
    evidence = gather_all(intervention, model, inputs, targets, keys, pairs)
    inputs, targets = jax.tree.map(jnp.asarray, (inputs, targets))
    return Pool(inputs, targets, evidence)


@record
class Desiderata:
    """The three desiderata, see :mod:`mmx_jax.learn.losses` and :mod:`mmx_jax.learn.stability`.

    Attributes:
      intervention: what removing a unit means.
      model: the model that is explained.
      spread: the range R of v.
      pool: what the model says of the rows of a :class:`Pool` that is the sampler, or None.
      demands: constants of desiderata I and II.
      slope: slopes of the explanation up to this cost nothing, of R per unit of the data.
      radius: of the ball, relative to the data's norm.
      thinning: stability is measured on one of so many rows, because it costs as much as the rest.
      faithful_thinning: the same for keeping and removing, which differentiates the model.
      path_slope: as ``slope``, along paths between examples; None for ``slope``.
    """

    intervention: Intervention
    model: Model
    spread: Float[Array, ""]
    pool: Pool | None = None
    demands: Demands = static(default=Demands())
    slope: float = static(default=1.0)
    radius: float = static(default=0.1)
    thinning: int = static(default=4)
    faithful_thinning: int = static(default=1)
    path_slope: float | None = static(default=None)

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
        """Mean losses of a batch by name; the labels are rows of the pool, or not used."""
        evidence = None
        if self.pool is not None:
            targets = self.pool.targets[labels]
            evidence = jax.tree.map(lambda leaf: leaf[labels], self.pool.evidence)
        context, spread, demands = (self.intervention, self.model), self.spread, self.demands

        def explained(x: Inputs, target: Array, key: PRNGKey, known: Evidence | None) -> Any:
            pairs = demands.pairs
            scores, found = explained_evidence(
                lambda row: network(row, target), *context, x, target, key, pairs, known
            )
            losses = granger_losses(scores, found, spread, demands)
            losses |= contribution_losses(scores, found, spread)
            return losses | stray_loss(scores, spread, demands), scores.intact, found

        def kept(scores: Scores, found: Evidence, x: Inputs, target: Array, key: PRNGKey) -> Any:
            return faithfulness_losses(*context, scores, found, x, target, key, spread, demands)

        def moved(x: Inputs, other: Inputs, target: Array, key: PRNGKey) -> Any:
            return stability_losses(
                lambda row: network(row, target),
                *(x, other, key, spread),
                limit=self.slope,
                radius=self.radius,
                path_limit=self.path_slope,
            )

        losses, scores, evidence = jax.vmap(explained)(inputs, targets, keys, evidence)
        more = [jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys) for i in (1, 2)]
        some = -(-targets.shape[0] // self.faithful_thinning)
        rows = jax.tree.map(lambda x: x[:some], (scores, evidence, inputs, targets, more[0]))
        losses |= jax.vmap(kept)(*rows)
        some = -(-targets.shape[0] // self.thinning)
        others = jax.tree.map(lambda x: jnp.roll(x, 1, 0), inputs)
        rows = jax.tree.map(lambda x: x[:some], (inputs, others, targets, more[1]))
        losses |= jax.vmap(moved)(*rows)
        return jax.tree.map(jnp.mean, losses)
