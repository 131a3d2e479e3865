"""The worst step in a ball: random beginnings, hill climbing by explainer calls, gradient ascent.

Hill climbing is split into :func:`propose` and :func:`improve`, so that a driver may send the
proposals through one compiled explainer.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mmx_jax.desiderata.effects import pair
from mmx_jax.desiderata.explained import ScoreRows
from mmx_jax.desiderata.jacobian import Explain
from mmx_jax.desiderata.perturb import Perturbations, directions, repeated, scaled, shifted
from mmx_jax.numerics import partition, safe_divide, safe_norm
from mmx_jax.typing import Inputs, PRNGKey, Scores, record

__all__ = ["Search", "ascend", "begin", "improve", "propose"]


@record
class Search:
    """A search for the worst step in the ball, one per pair "n<-m".

    Attributes:
      steps: the worst step of x_m so far.
      largest: its quotient.
    """

    steps: dict[str, PyTree]
    largest: dict[str, Float[Array, ""]]


def begin(inputs: Inputs, perturbed: Perturbations, intact: Scores, rows: ScoreRows) -> Search:
    """Begins at the worst of the random steps, from the scores of all perturbations."""
    steps, largest = {}, {}
    for kind, m, first, last in perturbed.layout:
        if kind != "ball":
            continue
        data = jax.tree.map(lambda x, a=first, b=last: x[a:b], perturbed.inputs[m])
        for n, score in sorted(intact.items()):
            norm = jax.vmap(lambda d: safe_norm(d, perturbed.order))(rows[n][first:last] - score)
            length = perturbed.length[first:last]
            quotient = safe_divide(norm, length, 0.0)
            best = jnp.argmax(quotient)
            steps[pair(n, m)] = _difference(jax.tree.map(lambda x, i=best: x[i], data), inputs[m])
            largest[pair(n, m)] = quotient[best]
    return Search(steps, largest)


def _difference(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: x - y, partition(a)[0], partition(b)[0])


def _ends(name: str) -> tuple[str, str]:
    n, m = name.split("<-")
    return n, m


def propose(
    search: Search, inputs: Inputs, key: PRNGKey, radius: dict[str, Any], order: float = 2
) -> Inputs:
    """One input per pair, ``[pairs, ...]``: its worst step turned a little, at a drawn length."""
    movers = _by_mover(search)
    *turns, reach = jax.random.split(key, len(movers) + 1)
    shares = jax.random.uniform(reach, (len(search.steps),), jnp.float32, 0.1, 1.0)
    blocks, first = [], 0
    for turn, (m, names) in zip(turns, movers.items(), strict=True):
        count = len(names)

        def turned(best: PyTree, way: PyTree, share: Array, m: str = m) -> PyTree:
            change = jax.tree.map(jnp.add, scaled(best, 1.0, order), scaled(way, 0.5, order))
            return shifted(inputs[m], scaled(change, radius[m] * share, order))

        best = jax.tree.map(lambda *x: jnp.stack(x), *(search.steps[name] for name in names))
        ways = directions(inputs[m], turn, count, order)
        moved = jax.vmap(turned)(best, ways, shares[first : first + count])
        blocks.append(repeated(inputs, count) | {m: moved})
        first += count
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *blocks)


def _by_mover(search: Search) -> dict[str, list[str]]:
    """The pairs "n<-m" by m: the order of the proposals."""
    out: dict[str, list[str]] = {}
    for name in sorted(search.steps):
        out.setdefault(_ends(name)[1], []).append(name)
    return dict(sorted(out.items()))


def improve(
    search: Search,
    inputs: Inputs,
    proposed: Inputs,
    intact: Scores,
    rows: ScoreRows,
    order: float = 2,
) -> Search:
    """Keeps what is worse, from the scores ``[pairs, units]`` of :func:`propose`."""
    steps, largest = {}, {}
    order_ = [name for names in _by_mover(search).values() for name in names]
    for i, name in enumerate(order_):
        n, m = _ends(name)
        change = _difference(jax.tree.map(lambda x, i=i: x[i], proposed[m]), inputs[m])
        length = safe_norm(change, order)
        moved = safe_norm(rows[n][i] - intact[n], order)
        quotient = safe_divide(moved, length, 0.0)
        worse = quotient > search.largest[name]
        steps[name] = jax.tree.map(
            lambda new, old, w=worse: jnp.where(w, new, old), change, search.steps[name]
        )
        largest[name] = jnp.maximum(quotient, search.largest[name])
    return Search(steps, largest)


def ascend(
    explain: Explain,
    search: Search,
    inputs: Inputs,
    intact: Scores,
    radius: dict[str, Any],
    order: float,
    steps: int,
) -> Search:
    """Follows the gradient of the quotient from the worst step so far, inside the ball.

    Args:
      explain: inputs to scores, differentiable.
      search: where to begin.
      inputs: the centre.
      intact: its scores.
      radius: per modality.
      order: of the norms.
      steps: of a fifth of the radius each.
    """
    for name, best in search.steps.items():
        n, m = _ends(name)

        def quotient(change: PyTree, n: str = n, m: str = m) -> Array:
            moved = explain(inputs | {m: shifted(inputs[m], change)})[n] - intact[n]
            length = safe_norm(change, order)
            return safe_divide(safe_norm(moved, order), length, 0.0)

        def up(
            _: Any, state: tuple[PyTree, Array, PyTree], q: Any = quotient, m: str = m
        ) -> tuple[PyTree, Array, PyTree]:
            change, largest, worst = state
            value, slope = jax.value_and_grad(q)(change)
            worse = value > largest
            worst = jax.tree.map(lambda a, b: jnp.where(worse, a, b), change, worst)
            stride = scaled(slope, 0.2 * radius[m], 2)
            change = jax.tree.map(jnp.add, change, stride)
            length = safe_norm(change, order)
            return (
                scaled(change, jnp.minimum(length, radius[m]), order),
                jnp.maximum(value, largest),
                worst,
            )

        _, largest, worst = jax.lax.fori_loop(0, steps, up, (best, search.largest[name], best))
        search = Search(search.steps | {name: worst}, search.largest | {name: largest})
    return search
