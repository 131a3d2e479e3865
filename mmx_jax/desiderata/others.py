"""Measures of others, under their own names, beside the desiderata: what do they agree on?

Deletion and insertion curves, region perturbation, infidelity, and fsyn, each over all units of
all modalities together; and the rank correlations among any columns.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.desiderata.undefined import Undefined, number
from mmx_jax.dividends import top_set_dividends
from mmx_jax.gates import flatten, unflatten
from mmx_jax.intervention import values
from mmx_jax.numerics import spearman
from mmx_jax.typing import (
    Inputs,
    Intervention,
    Model,
    PRNGKey,
    Scores,
    Target,
    record,
)

__all__ = [
    "Curves",
    "Infidelity",
    "curves",
    "fsyn",
    "infidelity",
    "rank_correlations",
]


@record
class Curves:
    """Deletion and insertion of units in the order of their signed scores.

    Attributes:
      deleted: ``[units + 1]``, v after removing the k units of largest score.
      inserted: ``[units + 1]``, v of the reference with those units put back.
      deletion: area under ``deleted`` over k / units (low is good). Petsiuk et al., *RISE*, 2018.
      insertion: area under ``inserted`` (high is good).
      region_perturbation: mean of ``v(x) - deleted[k]`` over k from 0 (high is good), the area
        over the MoRF curve of Samek et al., *Evaluating the visualization of what a deep neural
        network has learned*, 2017.
    """

    deleted: Float[Array, "_"]
    inserted: Float[Array, "_"]
    deletion: Float[Array, ""]
    insertion: Float[Array, ""]
    region_perturbation: Float[Array, ""]


def curves(
    intervention: Intervention,
    model: Model,
    scores: Scores,
    inputs: Inputs,
    target: Target,
    key: PRNGKey | None = None,
    *,
    chunk: int | None = None,
) -> Curves:
    """Removes and inserts units one by one, the largest signed score first.

    Args:
      intervention: what removing a unit means.
      model: the model.
      scores: of one example.
      inputs: of the example.
      target: the output.
      key: breaks ties.
      chunk: model calls made at once.
    """
    units = intervention.units
    flat = flatten(scores)
    count = flat.shape[0]
    # by signed score; a shift to magnitudes would round small differences away
    tie = jnp.arange(count) if key is None else jax.random.permutation(key, count)
    place = jnp.argsort(jnp.lexsort((tie, -flat)))
    budgets = jnp.arange(count + 1)[:, None]
    gates = jnp.concatenate([place >= budgets, place < budgets])
    table = jax.vmap(lambda g: unflatten(g, units))(gates)
    v = values(intervention, model, inputs, target, table, chunk)
    deleted, inserted = v[: count + 1], v[count + 1 :]
    return Curves(
        deleted,
        inserted,
        jnp.trapezoid(deleted) / count,
        jnp.trapezoid(inserted) / count,
        jnp.mean(deleted[0] - deleted),
    )


@record
class Infidelity:
    """Second moments over random removals, so that scores are calibrated afterwards.

    Attributes:
      attributed: mean of ``(sum of the removed units' scores)**2``.
      both: mean of that sum times the drop of v.
      drop: mean of the squared drop.
    """

    attributed: Float[Array, ""]
    both: Float[Array, ""]
    drop: Float[Array, ""]

    def at(self, scale: Any = 1.0) -> Any:
        """``E[(c sum_S E_u - (v(x) - v(x_-S)))**2]`` for ``c = scale``, of one or many examples."""
        return scale**2 * self.attributed - 2 * scale * self.both + self.drop


def infidelity(
    intervention: Intervention,
    model: Model,
    scores: Scores,
    inputs: Inputs,
    target: Target,
    key: PRNGKey,
    *,
    samples: int = 64,
    chunk: int | None = None,
) -> Infidelity:
    """How badly sums of scores predict what removing sets of units does.

    Yeh et al., *On the (in)fidelity and sensitivity of explanations*, 2019, with the perturbation
    "each unit is replaced by its reference with probability 1/2".

    Args:
      intervention: what removing a unit means.
      model: the model.
      scores: of one example.
      inputs: of the example.
      target: the output.
      key: of the removed sets.
      samples: how many sets.
      chunk: model calls made at once.
    """
    units, flat = intervention.units, flatten(scores)
    removed = jax.random.bernoulli(key, 0.5, (samples, flat.shape[0]))
    # v(x) goes through the same map, so that the model is traced once
    rows = jnp.concatenate([jnp.zeros((1, flat.shape[0]), bool), removed])
    gates = jax.vmap(lambda r: unflatten(~r, units))(rows)
    v = values(intervention, model, inputs, target, gates, chunk)
    drop = v[0] - v[1:]
    told = removed @ flat
    return Infidelity(jnp.mean(told**2), jnp.mean(told * drop), jnp.mean(drop**2))


def fsyn(
    intervention: Intervention,
    model: Model,
    scores: Scores,
    inputs: Inputs,
    target: Target,
    key: PRNGKey | None = None,
    *,
    shares: tuple[float, ...] = (0.1, 0.25, 0.5),
    chunk: int | None = None,
) -> Float[Array, ""]:
    """Joint Harsanyi dividend of the highlighted units, averaged over budgets.

    The mean of :func:`~mmx_jax.dividends.top_set_dividends`.

    Args:
      intervention: what removing a unit means.
      model: the model.
      scores: of one example.
      inputs: of the example.
      target: the output.
      key: breaks ties.
      shares: budgets per modality, rounded up to whole units.
      chunk: model calls made at once.
    """
    return jnp.mean(
        top_set_dividends(intervention, model, scores, inputs, target, shares, key, chunk)
    )


def rank_correlations(columns: dict[str, Any]) -> dict[str, dict[str, float | Undefined]]:
    """Spearman's correlation of every two columns: which measures order explainers alike?

    Args:
      columns: name to values ``[rows]``, a row per explainer (or example); None where undefined,
        which leaves the row out of that column's correlations.

    >>> table = rank_correlations({"a": [1.0, 2.0, 3.0], "b": [6.0, 5.0, 4.0]})
    >>> table["a"]["b"]
    -1.0
    """
    values_ = {name: np.asarray(v, np.float64) for name, v in columns.items()}
    reason = "one of the columns is constant where both are known"
    return {
        a: {
            b: number(spearman(x, y, ~(np.isnan(x) | np.isnan(y))), reason)
            for b, y in values_.items()
        }
        for a, x in values_.items()
    }
