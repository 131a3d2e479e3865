"""The perturbed inputs of stability, and what explanations of them amount to.

An explainer only sees stacks of inputs, so that a driver may send them all through one compiled
explainer: rows of a ball around x, of a straight path to another input, and of semantic moves.
Only one modality moves at a time.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mmx_jax.desiderata.effects import pair
from mmx_jax.desiderata.explained import ScoreRows
from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.numerics import is_inexact, levels, partition, ranks, safe_divide, safe_norm
from mmx_jax.typing import Inputs, PRNGKey, Scores, record, static

__all__ = [
    "PROBE",
    "Perturbations",
    "Probe",
    "Quotients",
    "directions",
    "moving",
    "perturbations",
    "quotients",
    "repeated",
    "scaled",
    "shifted",
]


@dataclasses.dataclass(frozen=True)
class Probe:
    """How thoroughly stability is searched.

    Attributes:
      directions: random steps per modality in the ball.
      segments: of the straight path to the other input.
      repeats: draws of each semantic move.
      order: 2, or ``inf``: the norm on both sides.
    """

    directions: int = 4
    segments: int = 8
    repeats: int = 1
    order: float = 2

    def __post_init__(self) -> None:
        """Refuses counts below 1 and other norms."""
        for name in ("directions", "segments", "repeats"):
            if getattr(self, name) < 1:
                raise InputError(name, f"is {getattr(self, name)}", "use 1 or more")
        if self.order not in (2, float("inf")):
            raise InputError("order", f"is {self.order}", "use 2 or inf")


PROBE = Probe()
"""The search of the default audit."""


@record
class Perturbations:
    """Inputs ``[rows, ...]`` around one example, in the order of ``layout``.

    Attributes:
      inputs: the rows.
      length: ``[rows]``: the norm of x_m' - x_m in a ball or move, of a segment on a path; NaN
        where it has no norm, because the data are integers.
      position: per block of moves, where each unit went, ``[repeats, units]``.
      layout: blocks ``(kind, modality, start, stop)``; kind is ``"ball"``, ``"path"`` or the name
        of a move.
      order: of the norms.
    """

    inputs: Inputs
    length: Float[Array, "rows"]
    position: dict[str, Array]
    layout: tuple[tuple[str, str, int, int], ...] = static()
    order: float = static(default=2)


def moving(inputs: Inputs) -> list[str]:
    """The modalities with real data, which can move a little."""
    return [n for n in sorted(inputs) if any(is_inexact(x) for x in jax.tree.leaves(inputs[n]))]


def directions(data: PyTree, key: PRNGKey, count: int, order: float) -> PyTree:
    """Random directions ``[count, ...]`` for the real leaves of some data; None for integers.

    Gaussian in the 2-norm, corners of the box in the inf-norm; not scaled.
    """
    leaves, treedef = jax.tree.flatten(partition(data)[0], is_leaf=lambda x: x is None)
    keys = jax.random.split(key, len(leaves)) if len(leaves) > 1 else [key]
    draw = jax.random.normal if order == 2 else jax.random.rademacher
    noise = [
        None if x is None else draw(k, (count, *jnp.shape(x)), jnp.result_type(x))
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, noise)


def scaled(tree: PyTree, length: Any, order: float) -> PyTree:
    """A step with its norm set to ``length`` (0 stays 0)."""
    factor = safe_divide(jnp.asarray(length, jnp.float32), safe_norm(tree, order), 0.0)
    return jax.tree.map(lambda x: (x * factor).astype(x.dtype), tree)


def shifted(data: PyTree, change: PyTree) -> PyTree:
    """The data after a step; integer leaves stay."""
    return jax.tree.map(
        lambda x, d: x if d is None else x + d, data, change, is_leaf=lambda x: x is None
    )


def repeated(inputs: Inputs, count: int) -> Inputs:
    """The same inputs ``[count, ...]``."""
    return jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x), (count, *jnp.shape(x))), inputs)


def perturbations(
    modalities: dict[str, Modality],
    inputs: Inputs,
    other: Inputs,
    key: PRNGKey,
    radius: dict[str, Any],
    probe: Probe = PROBE,
) -> Perturbations:
    """All perturbed inputs of one example.

    Args:
      modalities: with their semantic moves.
      inputs: of the example.
      other: of another example, where the straight path leads.
      key: of the directions and moves.
      radius: per modality, of the ball; half of the directions stop halfway.
      probe: how many of each.
    """
    blocks: list[Inputs] = []
    lengths: list[Array] = []
    layout: list[tuple[str, str, int, int]] = []
    position: dict[str, Array] = {}

    def add(kind: str, name: str, data: PyTree, length: Array) -> None:
        first, count = (layout[-1][3] if layout else 0), length.shape[0]
        layout.append((kind, name, first, first + count))
        blocks.append(repeated(inputs, count) | {name: data})
        lengths.append(length)

    def distances(name: str, data: PyTree) -> Array:
        return jax.vmap(lambda d: _distance(d, inputs[name], probe.order))(data)

    def reach(name: str, way: PyTree, length: Array) -> PyTree:
        return shifted(inputs[name], scaled(way, length, probe.order))

    def along(name: str, change: PyTree, t: Array) -> PyTree:
        return shifted(inputs[name], jax.tree.map(lambda d: d * t.astype(d.dtype), change))

    # every draw of random bits is a program of its own to compile: keys are split once
    moves = [(name, move) for name in sorted(modalities) for move in modalities[name].moves]
    real = moving({name: inputs[name] for name in modalities})
    keys = iter(jax.random.split(key, (len(real) + len(moves), probe.repeats)))
    shares = 1 / (1 + np.arange(probe.directions) % 2)
    for name in real:
        ways = directions(inputs[name], next(keys)[0], probe.directions, probe.order)
        data = jax.vmap(partial(reach, name))(ways, radius[name] * shares)
        # the norm of what was really added, after rounding
        add("ball", name, data, distances(name, data))
    for name in real:
        change = jax.tree.map(
            lambda a, b: a - b if is_inexact(a) else None, other[name], inputs[name]
        )
        times = jnp.arange(1, probe.segments + 1) / probe.segments
        data = jax.vmap(partial(along, name, change))(times)
        length = safe_norm(change, probe.order) / probe.segments
        add("path", name, data, jnp.broadcast_to(length, (probe.segments,)))
    for name, move in moves:
        units = modalities[name].units
        data, where = jax.vmap(lambda k, f=move, n=name, u=units: f(k, inputs[n], u))(next(keys))
        add(move.name, name, data, distances(name, data))
        position[f"{move.name} {name}"] = where
    if not blocks:
        raise InputError("inputs", "have no real data and no semantic moves", "nothing can move")
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *blocks)
    return Perturbations(joined, jnp.concatenate(lengths), position, tuple(layout), probe.order)


def _distance(a: PyTree, b: PyTree, order: float) -> Array:
    """Norm of a difference; NaN where integers differ, whose distance is not defined."""
    real = jax.tree.map(lambda x, y: x - y if is_inexact(x) else None, a, b)
    whole = [
        jnp.any(x != y)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if not is_inexact(x)
    ]
    differ = jnp.any(jnp.stack(whole)) if whole else jnp.zeros((), bool)
    return jnp.where(differ, jnp.nan, safe_norm(real, order))


@record
class Quotients:
    """Changes of one example's explanation over its perturbations; raw, before calibration.

    Attributes:
      ball: per pair "n<-m", the largest ``||E_n(x') - E_n(x)|| / ||x_m' - x_m||`` in the ball.
      path: per pair, the largest such quotient between neighbours on the straight path.
      moves: per pair and move, ``{"quotient", "change", "rank_shift"}``, each ``[repeats]``: the
        quotient (NaN where the distance is 0 or undefined), the change ``||E_n' - E_n||``, and
        the mean shift of a unit's rank by magnitude, from 0 to 1.
    """

    ball: dict[str, Array]
    path: dict[str, Array]
    moves: dict[str, dict[str, dict[str, Array]]]


def quotients(perturbed: Perturbations, intact: Scores, rows: ScoreRows) -> Quotients:
    """Turns the scores ``[rows, units]`` of :func:`perturbations` into quotients.

    The action of a move on units is undone in the modality that moved.
    """
    ball, path, moves = {}, {}, {}
    order = perturbed.order
    norm = jax.vmap(lambda d: safe_norm(d, order))
    for kind, m, start, stop in perturbed.layout:
        length = perturbed.length[start:stop]
        for n, score in sorted(intact.items()):
            after = rows[n][start:stop]
            name = pair(n, m)
            if kind == "path":
                before = jnp.concatenate([score[None], after[:-1]])
                path[name] = jnp.max(safe_divide(norm(after - before), length, 0.0))
                continue
            if kind == "ball":
                ball[name] = jnp.max(safe_divide(norm(after - score), length, 0.0))
                continue
            if n == m:
                place = perturbed.position[f"{kind} {m}"]
                after = jnp.take_along_axis(after, place, axis=1)
            change = norm(after - score)
            shift = jax.vmap(lambda a, s=score: _rank_shift(s, a))(after)
            moves.setdefault(name, {})[kind] = {
                "quotient": safe_divide(change, length),
                "change": change,
                "rank_shift": shift,
            }
    return Quotients(ball, path, moves)


def _rank_shift(before: Array, after: Array) -> Float[Array, ""]:
    """Mean change of rank by magnitude, relative to the largest possible change of one unit."""
    moved = jnp.abs(ranks(levels(before)) - ranks(levels(after)))
    return jnp.mean(moved) / max(before.shape[0] - 1, 1)
