"""What the model says of one example: the values that every loss of a learned explainer needs.

All hard gates of an example form one table, so the model is traced once. The same sets of units
are tried with all other modalities intact and with each of them removed, which tells effects and
interactions of sets alike.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from mmx_jax.desiderata.effects import pair
from mmx_jax.games import memberships
from mmx_jax.gates import unflatten
from mmx_jax.intervention import value
from mmx_jax.mapping import map_examples, map_stacked
from mmx_jax.typing import Inputs, Intervention, Model, PRNGKey, Scores, Target, record

__all__ = ["Evidence", "coalition", "gather_all", "gather_evidence"]


@record
class Evidence:
    """Values of one example under hard gates; constants of the losses.

    Attributes:
      value: ``v(x)``.
      coalitions: ``[2**M]``, bit m: the m-th sorted modality is intact.
      sets: per modality, the sets of its units that were tried ``[S, units]``.
      kept: per "n" and "n<-m", values ``[S]`` with only the set left in n (and m removed).
      reach: per modality and pair, ``max - min`` over the sets of what removing the set does (to
        v, or to the effect of m): the mass that an explanation may claim.
      largest: per modality and ``"joint"``, the largest absolute effect of removing any set.
    """

    value: Float[Array, ""]
    coalitions: Float[Array, "coalitions"]
    sets: dict[str, Bool[Array, "S _"]]
    kept: dict[str, Float[Array, "S"]]
    reach: dict[str, Float[Array, ""]]
    largest: dict[str, Float[Array, ""]]


def coalition(key: PRNGKey, units: int) -> Bool[Array, "units"]:
    """A set of units whose size follows the Shapley kernel, ``P(k) ~ 1 / (k (units - k))``.

    Lundberg and Lee, *A unified approach to interpreting model predictions* (2017): least squares
    over such sets, with the sum fixed, has the Shapley values as its solution.
    """
    for_size, for_order = jax.random.split(key)
    if units == 1:
        return jax.random.bernoulli(for_size, 0.5, (1,))
    sizes = np.arange(1, units)
    odds = jnp.log(jnp.asarray(1 / (sizes * (units - sizes)), jnp.float32))
    size = 1 + jax.random.categorical(for_size, odds)
    return jax.random.permutation(for_order, units) < size


def gather_evidence(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    scores: Scores,
    key: PRNGKey,
    pairs: int = 2,
    chunk: int | None = None,
) -> Evidence:
    """Values under every coalition of modalities and under sets of units of each modality.

    The sets are ``pairs`` drawn ones and their complements, and the positive and the negative
    part of the explanation itself, without which opposing evidence looks like none.

    Args:
      intervention: what removing a unit means.
      model: the model.
      inputs: of one example.
      target: the output that is explained.
      scores: the present explanation of the example.
      key: where the sets are drawn.
      pairs: drawn sets per modality, each with its complement.
      chunk: model calls made at once.
    """
    units = {name: intervention.units[name] for name in sorted(intervention.units)}
    names, count = list(units), sum(units.values())
    ends = dict(zip(names, np.cumsum(list(units.values())), strict=True))
    ids = {name: np.arange(ends[name] - units[name], ends[name]) for name in names}
    everyone = (1 << len(names)) - 1

    present = memberships(len(names))
    owner = np.repeat(np.arange(len(names)), [units[n] for n in names])
    rows = [present[:, owner]]
    sets, places, start = {}, {}, 1 << len(names)
    for i, name in enumerate(names):
        drawn = jax.vmap(lambda k, n=name: coalition(k, units[n]))(
            jax.random.split(jax.random.fold_in(key, i), pairs)
        )
        parts = jnp.stack([scores[name] <= 0, scores[name] >= 0])  # left after removing a part
        sets[name] = jnp.concatenate([drawn, ~drawn, parts])
        for other in [None, *(n for n in names if n != name)]:
            gates = jnp.ones((2 * pairs + 2, count), bool).at[:, ids[name]].set(sets[name])
            if other is not None:
                gates = gates.at[:, ids[other]].set(False)
            label = name if other is None else pair(name, other)
            places[label] = slice(start, start + 2 * pairs + 2)
            start += 2 * pairs + 2
            rows.append(gates)

    def under(gate: Array) -> Array:
        return value(intervention, model, inputs, target, unflatten(gate, units))

    v = jax.lax.stop_gradient(map_stacked(under, jnp.concatenate(rows), chunk=chunk))
    table, kept = v[: 1 << len(names)], {label: v[place] for label, place in places.items()}
    intact = table[everyone]
    reach, largest = {}, {"joint": jnp.max(jnp.abs(intact - v))}
    for i, n in enumerate(names):
        without = everyone - (1 << i)
        alone = jnp.concatenate([intact - kept[n], intact - table[jnp.array([without, everyone])]])
        reach[n] = jnp.max(alone) - jnp.min(alone)
        largest[n] = jnp.max(jnp.abs(alone))
        for j, m in enumerate(names):
            if m != n:
                gone = table[everyone - (1 << j)]
                both = jnp.concatenate(
                    [gone - kept[pair(n, m)], gone - table[jnp.array([without - (1 << j)])]]
                )
                crossed = jnp.append(alone[:-1] - both, 0.0)
                reach[pair(n, m)] = jnp.max(crossed) - jnp.min(crossed)
    return Evidence(intact, table, sets, kept, reach, largest)


def gather_all(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    targets: Any,
    keys: Key[Array, "examples"],
    pairs: int,
) -> Evidence:
    """The evidence of many examples, with a leading axis, before there is any explanation."""
    nothing = {n: jnp.zeros((units,)) for n, units in intervention.units.items()}

    def one(x: Inputs, target: Array, key: PRNGKey) -> Evidence:
        return gather_evidence(intervention, model, x, target, nothing, key, pairs)

    chunk = min(64, len(keys))
    return jax.tree.map(
        jnp.asarray, map_examples(one, inputs, np.asarray(targets), keys, chunk=chunk)
    )
