"""The scores that the desiderata judge: of an example and of its modality ablations, once.

The explainer only sees a stack of inputs, so that a driver may send that stack through one
compiled explainer: ``collect(intervention, explain(counterfactuals(intervention, inputs)))``.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mmx_jax.mapping import map_stacked
from mmx_jax.typing import (
    Explainer,
    Inputs,
    Intervention,
    Model,
    PRNGKey,
    Scores,
    Target,
    record,
)

__all__ = [
    "Changes",
    "Explained",
    "ScoreRows",
    "changes",
    "collect",
    "counterfactuals",
    "explained",
]

if TYPE_CHECKING:
    ScoreRows = dict[str, Array]
else:
    ScoreRows = PyTree[Float[Array, "_ ?units"], "R"]
    """Scores of several inputs: modality name to ``[rows, units]``."""


@record
class Explained:
    """Scores of one example under one key.

    Attributes:
      intact: ``E(x)``.
      ablated: per modality m, ``E(x_-m)``, averaged over reference draws.
    """

    intact: Scores
    ablated: dict[str, Scores]


def counterfactuals(intervention: Intervention, inputs: Inputs) -> Inputs:
    """The inputs to be explained, stacked ``[1 + M draws]``: x, then x_-m for each m and draw."""
    draws = jnp.arange(intervention.draws)
    gone = [
        jax.vmap(lambda d, n=name: intervention.ablate(inputs, n, d))(draws)
        for name in sorted(intervention.units)
    ]
    intact = jax.tree.map(lambda x: jnp.asarray(x)[None], inputs)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), intact, *gone)


def collect(intervention: Intervention, scores: dict[str, Array]) -> Explained:
    """The record of scores ``[1 + M draws, units]`` in the order of :func:`counterfactuals`."""
    draws = intervention.draws
    return Explained(
        intact={n: s[0] for n, s in scores.items()},
        ablated={
            m: {
                n: jnp.mean(s[1 + i * draws : 1 + (i + 1) * draws], axis=0)
                for n, s in scores.items()
            }
            for i, m in enumerate(sorted(intervention.units))
        },
    )


def explained(
    intervention: Intervention,
    model: Model,
    explainer: Explainer,
    inputs: Inputs,
    target: Target,
    key: PRNGKey | None,
    *,
    chunk: int | None = None,
) -> Explained:
    """Explains x and every x_-m with the same key and target; one traced explainer.

    Args:
      intervention: says what x_-m is.
      model: the model.
      explainer: the explainer.
      inputs: of one example.
      target: chosen on the intact input.
      key: the same for x and its ablations, so that they differ by the ablation alone.
      chunk: explanations computed at once.
    """
    rows = counterfactuals(intervention, inputs)
    scores = map_stacked(lambda x: explainer(model, x, target, key), rows, chunk=chunk)
    return collect(intervention, scores)


@record
class Changes:
    """How one example's explanation changes when a modality goes; raw, before calibration.

    Attributes:
      units: per pair "n<-m", ``|E_n,u(x) - E_n,u(x_-m)|`` ``[units_n]``. Its sum is dE_nm.
      signed: per modality, ``|sum_u (E_m,u(x) - E_m,u(x_-m))|``, which calibrates.
      norm: per modality, ``||E_m(x)||_2``.
      finite: whether every score of the example is a number.
    """

    units: dict[str, Array]
    signed: dict[str, Array]
    norm: dict[str, Array]
    finite: Array


def changes(scores: Explained) -> Changes:
    """Distances between explanations of one modality are L1, unit by unit."""
    names = sorted(scores.ablated)
    leaves = jax.tree.leaves(scores)
    return Changes(
        units={
            f"{n}<-{m}": jnp.abs(scores.intact[n] - scores.ablated[m][n])
            for n in sorted(scores.intact)
            for m in names
        },
        signed={m: jnp.abs(jnp.sum(scores.intact[m] - scores.ablated[m][m])) for m in names},
        norm={n: jnp.linalg.norm(s) for n, s in sorted(scores.intact.items())},
        finite=jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves])),
    )
