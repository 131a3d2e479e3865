"""II. Synergistic faithfulness: keep and remove what the explanation highlights (eqs. 3 to 5).

Per modality the others stay whole; jointly one budget runs over all modalities, and only that
test sees synergy. The scores are ordinary arguments, so all explainers share one compiled program.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.errors import InputError
from mmx_jax.gates import flatten, own_size, rank, unflatten
from mmx_jax.intervention import value
from mmx_jax.mapping import map_stacked
from mmx_jax.typing import Inputs, Intervention, Model, PRNGKey, Scores, Target, record

__all__ = ["Faithfulness", "faithfulness"]


@record
class Faithfulness:
    """Signed drops of v for one example, per modality and ``"joint"``.

    Attributes:
      keep: ``[units + 1]``, ``v(x) - v(keep the top k)`` for k from 0 (eq. 4).
      remove: ``[units + 1]``, ``v(x) - v(remove the top k)`` for k from 0 (eq. 5).
      parts: ``[2]``, the drops by removing the positive and the negative part of the own set.
      size: how many units the own set has.
    """

    keep: dict[str, Float[Array, "_"]]
    remove: dict[str, Float[Array, "_"]]
    parts: dict[str, Float[Array, "2"]]
    size: dict[str, Int[Array, ""]]


def faithfulness(
    intervention: Intervention,
    model: Model,
    scores: Scores,
    inputs: Inputs,
    target: Target,
    key: PRNGKey | None,
    *,
    joint: Scores | None = None,
    constants: Constants = DEFAULTS,
    chunk: int | None = None,
) -> Faithfulness:
    """Keeps and removes the top k units for every k, per modality and jointly.

    Units are ranked by magnitude; ties are broken by a permutation drawn from ``key``, so that a
    constant explanation scores as a random one.

    Args:
      intervention: what removing a unit means.
      model: the model.
      scores: of one example.
      inputs: of the example.
      target: the output that is explained.
      key: breaks ties.
      joint: other scores for the joint test (the reference explanation of an analytic world has
        some); ``scores`` if None.
      constants: the share that the own set holds.
      chunk: model calls made at once.
    """
    if key is None:
        raise InputError("key", "is None", "give a key, which breaks ties")
    units = {name: intervention.units[name] for name in sorted(intervention.units)}
    places = unflatten(jnp.arange(sum(units.values())), units)
    groups = {name: scores[name] for name in units} | {
        "joint": flatten(scores if joint is None else joint)
    }

    rows, sizes = [], {}
    for i, (name, score) in enumerate(groups.items()):
        place = rank(score, jax.random.fold_in(key, i))
        sizes[name] = own_size(score, constants.own_share)
        own = place < sizes[name]
        budgets = jnp.arange(score.shape[0])[:, None]
        removed = jnp.concatenate(
            [
                place >= budgets,  # keep the top 0 to U - 1
                place < budgets + 1,  # remove the top 1 to U
                jnp.stack([own & (score > 0), own & (score < 0)]),
            ]
        )
        if name != "joint":
            empty = jnp.zeros((removed.shape[0], sum(units.values())), bool)
            removed = empty.at[:, places[name]].set(removed)
        rows.append(removed)
    table = jnp.concatenate([jnp.zeros((1, sum(units.values())), bool), *rows])
    v = map_stacked(
        lambda removed: value(intervention, model, inputs, target, unflatten(~removed, units)),
        table,
        chunk=chunk,
    )
    drop, start = v[0] - v, 1
    keep, remove, parts = {}, {}, {}
    none = jnp.zeros((1,), drop.dtype)
    for name, score in groups.items():
        count = score.shape[0]
        kept, removed, part = jnp.split(drop[start : start + 2 * count + 2], [count, 2 * count])
        keep[name] = jnp.concatenate([kept, none])
        remove[name] = jnp.concatenate([none, removed])
        parts[name] = part
        start += 2 * count + 2
    return Faithfulness(keep, remove, parts, sizes)
