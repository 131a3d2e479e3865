"""Explanations that are weighted sums of gated values: ``E_u = sum_r w_r,u v(gate_r)``.

Occlusion, RISE, LIME, KernelSHAP and all Shapley values are. A :class:`Plan` makes the gate and
the weights of one row from its index, so that a scan carry holds the sum: the model is compiled
once and memory doesn't grow with the number of rows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmx_jax import gates as gt
from mmx_jax.explainers.base import feature_gates, units_of
from mmx_jax.games import memberships, shapley_coefficients
from mmx_jax.intervention import value, within
from mmx_jax.mapping import accumulate
from mmx_jax.modality import Modality
from mmx_jax.model import SplitModel
from mmx_jax.typing import Inputs, Model, Scores, Target

__all__ = ["Plan", "chain_plan", "concatenate", "exact_plan", "joint_sum", "within_sums"]


class Plan(NamedTuple):
    """Which gates are tried, and what each value adds to each sum.

    Attributes:
      rows: how many gates.
      row: from the index of a row to its gate ``[players]`` and its weights ``[sums]``.
    """

    rows: int
    row: Callable[[Int[Array, ""]], tuple[Bool[Array, "players"], Float[Array, "sums"]]]


def exact_plan(players: int) -> Plan:
    """Shapley values by all ``2**players`` coalitions."""
    return Plan(1 << players, lambda i: (memberships(players, i), shapley_coefficients(i, players)))


def chain_plan(
    players: int, pairs: int, order: Callable[[Int[Array, ""]], Int[Array, "players"]]
) -> Plan:
    """Shapley values by random orders, each followed forwards and backwards.

    A player gets what it adds to those before it. The empty and the full coalition are rows of
    their own, shared by all orders: ``2 + 2 pairs (players - 1)`` rows.

    Args:
      players: how many.
      pairs: how many orders there are; each is also followed in reverse (antithetic).
      order: from the index of an order to the place of each player in it, from 0.
    """
    last, orders, inner = players - 1, 2 * pairs, max(players - 1, 1)

    def ends(pair: Array) -> Array:
        place = order(pair)
        return (place == 0) / orders + (place == last) / orders

    # thanks to the reversed orders a player is last as often as it is first
    share = accumulate(ends, pairs)

    def row(index: Array) -> tuple[Array, Array]:
        step = jnp.maximum(index - 2, 0)
        forward, size = order(step // inner // 2), 1 + step % inner
        place = jnp.where(step // inner % 2 == 0, forward, last - forward)
        weights = (place == size - 1) / orders - (place == size) / orders
        sign = jnp.where(index == 1, 1, -1)
        gate = jnp.where(index < 2, index == 1, place < size)
        return gate, jnp.where(index < 2, sign * share, weights)

    return Plan(2 + orders * last, row)


def concatenate(plans: list[Plan]) -> Plan:
    """All rows of several plans for the same players, one plan after the other."""
    ends = np.cumsum([plan.rows for plan in plans])
    starts = ends - [plan.rows for plan in plans]

    def row(index: Array) -> tuple[Array, Array]:
        which = jnp.searchsorted(jnp.asarray(ends), index, side="right")
        return jax.lax.switch(which, [p.row for p in plans], index - jnp.asarray(starts)[which])

    return Plan(int(ends[-1]), row)


def joint_sum(
    modalities: dict[str, Modality],
    plan: Plan,
    model: Model,
    inputs: Inputs,
    target: Target,
    chunk: int | None = None,
) -> Float[Array, "sums"]:
    """``sum_r w_r v(gate_r)``; the players are the units of all modalities in sorted order."""
    intervention, size = feature_gates(modalities, chunk)
    units = units_of(modalities)

    def term(index: Array) -> Array:
        gate, weights = plan.row(index)
        return weights * value(intervention, model, inputs, target, gt.unflatten(gate, units))

    return accumulate(term, plan.rows, size)


def within_sums(
    modalities: dict[str, Modality],
    plans: dict[str, Plan],
    model: Model,
    inputs: Inputs,
    target: Target,
    chunk: int | None = None,
) -> Scores:
    """``sum_r w_r v_m(gate_r)`` per modality, the other modalities left intact.

    A :class:`~mmx_jax.model.SplitModel` encodes the other modalities once. For any other model the
    games share one loop, so that the model is compiled once, not once per modality.
    """
    units = units_of(modalities)
    if not isinstance(model, SplitModel):
        plan = concatenate([_widened(plans[name], name, units) for name in units])
        return gt.unflatten(joint_sum(modalities, plan, model, inputs, target, chunk), units)

    intervention, size = feature_gates(modalities, chunk)

    def alone(name: str) -> Array:
        game = within(intervention, model, inputs, target, name)

        def term(index: Array) -> Array:
            gate, weights = plans[name].row(index)
            return weights * game(gate)

        return accumulate(term, plans[name].rows, size)

    return {name: alone(name) for name in units}


def _widened(plan: Plan, name: str, units: dict[str, int]) -> Plan:
    """The plan of one modality as a plan for all: the others' gates are open, their weights 0."""

    def row(index: Array) -> tuple[Array, Array]:
        gate, weights = plan.row(index)
        nothing = {n: jnp.zeros((count,), weights.dtype) for n, count in units.items()}
        return gt.flatten(gt.full(units) | {name: gate}), gt.flatten(nothing | {name: weights})

    return Plan(plan.rows, row)
