"""Is a certified bound ever exceeded? Random networks of every operation, sampled without mercy.

Command: ``python -m experiments.certify.soundness --out out/soundness`` (1,000 networks, 10^7
points; about an hour on two cores, nearly all of it compiling; ``--quick``: 24 networks of 3
structures, 4,800 points). Expected: no violation.

A structure is a random chain of operations; its networks differ in weights, input, and radius, and
are analysed side by side by one compiled program. Every network is explained by its Jacobian or, if
it is smooth, by its gradient; domain and norm are drawn too. At each point (half of them on the
surface, or at corners) the norms of all blocks are computed in float64 and held against the
certified constants; so are the best points found by the ascents.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.certify.operations import SMOOTH, WIDTH, structure
from experiments.common import Outcome, Run, at_most, main
from mmx_jax.certify import lift, lipschitz_bounds
from mmx_jax.numerics import derive_key

__all__ = ["Options", "check_structure", "experiment"]

SHAPES = {"a": 3, "b": 2}
METHODS = ("quadratic", "shaped", "interval", "affine", "full")
SLACK = 1e-9
"""Relative rounding of the sampled norms, which are computed in float64."""


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Options of the soundness check."""

    structures: int = 50
    """How many random chains of operations."""
    nets: int = 20
    """How many networks of each."""
    points: int = 10_000
    """How many points of each network."""
    skip: int = 0
    """How many chains to leave out first: a long run in parts."""


def directions(rng: np.random.Generator, norm: float, shape: tuple[int, ...]) -> Any:
    """Points of the unit ball, inside and on its surface (at corners of a box)."""
    u = rng.normal(size=shape)
    inside = rng.random((*shape[:-1], 1)) < 0.5
    if norm == 2:
        u /= np.linalg.norm(u, axis=-1, keepdims=True)
        return u * np.where(inside, rng.random((*shape[:-1], 1)), 1.0)
    return np.where(inside, rng.uniform(-1, 1, shape), np.sign(u))


def check_structure(seed: int, nets: int, points: int) -> dict[str, Any]:
    """Analyses and samples the networks of one structure.

    Returns:
      the ``operations``, domain, norm and explanation, how many ``points`` were compared, how many
      of them violate a bound, and the median of certified / largest sampled.
    """
    rng = np.random.default_rng(seed)
    names, apply = structure(rng)
    norm = 2 if rng.random() < 0.6 else np.inf
    method = METHODS[seed % len(METHODS)]
    gradient = all(n in SMOOTH for n in names) and rng.random() < 0.8

    def explain(model: Any) -> Any:
        if gradient:
            return jax.grad(lambda d: jnp.sum(model(d)[:2]))
        return lambda d: {"y": model(d)}

    def model(weights: Any, d: Any) -> Any:
        return apply(weights, jnp.concatenate([d["a"], d["b"]]))

    def bounds(weights: Any, x: Any, r: Any) -> Any:
        lifted = lift(lambda d: model(weights, d), x)
        radius = {"a": r, "b": 0.5 * r}
        search: dict[str, Any] = {"restarts": 4, "steps": 12}
        found = lipschitz_bounds(explain(lifted), x, radius, norm, method, **search)
        return found.certified, found.searched, found.status

    def steepest(weights: Any, x: Any, r: Any, u: Any) -> Any:
        """The norms of all blocks at one point, with the plain model."""
        wide = jax.tree.map(lambda v: v.astype(jnp.float64), (weights, x))
        at = {"a": wide[1]["a"] + r * u[:3], "b": wide[1]["b"] + 0.5 * r * u[3:]}
        blocks = jax.jacfwd(explain(lambda d: model(wide[0], d)))(at)
        return {(n, m): _norm(blocks[n][m], norm) for n in blocks for m in SHAPES}

    weights = np.asarray(rng.normal(size=(nets, 6, WIDTH, WIDTH)) / np.sqrt(WIDTH), np.float32)
    x = {m: np.asarray(rng.normal(size=(nets, k)), np.float32) for m, k in SHAPES.items()}
    radius = np.asarray(10 ** rng.uniform(-4, -0.5, nets), np.float32)
    certified, searched, status = jax.jit(jax.vmap(bounds))(weights, x, radius)
    with jax.enable_x64(True):
        u = np.concatenate(
            [directions(rng, norm, (nets, points, k)) for k in SHAPES.values()], axis=-1
        )
        many = jax.jit(jax.vmap(jax.vmap(steepest, (None, None, None, 0))))
        norms = jax.device_get(many(weights, x, radius.astype(np.float64), u))
    over = broken = 0
    ratios = []
    for pair, values in norms.items():
        top = np.asarray(certified[pair], np.float64)[:, None]
        # NaN at a point is no value of the function; an infinite one must be bounded by infinity
        over += int(np.sum(values > top * (1 + SLACK)))
        broken += int(np.sum(np.asarray(status[pair]) == 2))
        over += int(np.sum(np.asarray(searched[pair], np.float64) > top[:, 0]))
        ratios += (top[:, 0] / np.maximum(values.max(1), 1e-30)).tolist()
    return {
        "seed": seed,
        "operations": names,
        "explanation": "gradient" if gradient else "Jacobian",
        "method": method,
        "norm": str(norm),
        "points": nets * points,
        "violations": over + broken,
        "median_ratio": float(min(np.median(ratios), 1e30)),
    }


def _norm(block: Any, norm: float) -> Any:
    if norm == 2:
        return jnp.linalg.norm(block, 2)
    return jnp.max(jnp.sum(jnp.abs(block), 1))


def experiment(run: Options) -> Outcome:
    """Counts violations over all structures."""
    structures, nets, points = (3, 8, 200) if run.quick else (run.structures, run.nets, run.points)
    first = int(jax.random.randint(derive_key(run.seed, "structures"), (), 0, 10_000))
    found = []
    for i in range(run.skip, run.skip + structures):
        found.append(check_structure(first + i, nets, points))
        print(found[-1], file=sys.stderr, flush=True)
    violations = {run.seed: sum(f["violations"] for f in found)}
    total = sum(f["points"] for f in found)
    used = sorted({n for f in found for n in f["operations"]})
    claim = at_most(f"violations at {total} points of {structures * nets} nets", violations, 0)
    summary = {"networks": structures * nets, "points": total, "operations": len(used)}
    return Outcome([claim], {"soundness": [summary]}, {}, found)


if __name__ == "__main__":
    main("certify.soundness", __doc__, experiment, Options)
