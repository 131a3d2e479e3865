"""Branch and bound, the search where nothing slopes, and norms per row and joint."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.certify import lipschitz_bounds
from mmx_jax.errors import InputError, UnknownNameError

RADIUS = 0.4


def cells_met(w, b, x):
    """The sign patterns of ``y @ w + b`` over a disc around x, enumerated exactly.

    Every cell of the lines that meets the disc has the center, a crossing of two lines, or a
    crossing of a line and the circle in its closure: the signs of the lines that meet there are
    free, all others are fixed.
    """
    slopes, offsets = w.T, x @ w + b

    def around(point, lines):
        signs = slopes @ point + offsets > 0
        for free in itertools.product([False, True], repeat=len(lines)):
            signs[list(lines)] = free
            yield tuple(signs)

    found = set(around(np.zeros(2), ()))
    for i, j in itertools.combinations(range(len(offsets)), 2):
        point = np.linalg.solve(slopes[[i, j]], -offsets[[i, j]])
        if np.linalg.norm(point) < RADIUS:
            found |= set(around(point, (i, j)))
    for i, (slope, offset) in enumerate(zip(slopes, offsets, strict=True)):
        size = np.linalg.norm(slope)
        foot, reach = -offset * slope / size**2, RADIUS**2 - (offset / size) ** 2
        for sign in (-1, 1) if reach > 0 else ():
            along = np.array([-slope[1], slope[0]]) / size
            found |= set(around(foot + sign * np.sqrt(reach) * along, (i,)))
    return found


def test_two_input_relu_nets_agree_with_the_enumeration_of_their_cells():
    """The constant is the largest norm over the cells met: searched, and proven by halving."""

    @jax.jit
    def bounds(w, b, v, x):
        return lipschitz_bounds(
            lambda d: {"y": jax.nn.relu(d["x"] @ w + b) @ v},
            {"x": x},
            RADIUS,
            method="interval",
            splits=400,
        )

    for seed in range(8):
        rng = np.random.default_rng(seed)
        w, b, v, x = (rng.normal(size=s).astype(np.float32) for s in ((2, 6), (6,), (6, 2), (2,)))
        cells = cells_met(*(np.asarray(a, np.float64) for a in (w, 0.3 * b, x)))
        truth = max(np.linalg.norm((w * np.array(c)) @ v, 2) for c in cells)
        found = bounds(w, 0.3 * b, v, x).check()
        assert found.certified["y", "x"] >= truth * (1 - 1e-6)
        # a unit that switches within a cell moves several entries, each bounded by itself
        assert found.certified["y", "x"] <= truth * (1.3 if len(cells) > 1 else 1 + 1e-5)
        assert truth * (1 - 1e-5) <= found.searched["y", "x"] <= truth * (1 + 1e-6)


def test_halving_tightens_boxes_too():
    x = {"a": jnp.array([0.3, -0.8]), "b": jnp.array([0.5])}
    plain, halved = (
        lipschitz_bounds(
            lambda d: {"y": jnp.sin(2 * d["a"]) * d["b"]},
            x,
            {"a": 0.5, "b": 0.3},
            np.inf,
            "interval",
            restarts=4,
            steps=12,
            splits=splits,
        ).check()
        for splits in (0, 64)
    )
    for pair, certified in halved.certified.items():
        assert halved.searched[pair] <= certified <= plain.certified[pair]
        assert certified <= 1.05 * halved.searched[pair]


def test_rows_and_the_whole_jacobian():
    x = {"a": jnp.array([0.3, -0.8]), "b": jnp.array([0.5, 0.1])}

    def fn(d):
        h = jnp.concatenate([d["a"], d["b"]])
        return {"y": jnp.sin(h)[1:], "z": jnp.sum(h**2)[None]}

    whole = jax.jacobian(lambda v: jnp.concatenate(list(fn({"a": v[:2], "b": v[2:]}).values())))(
        jnp.concatenate([x["a"], x["b"]])
    )
    blocks = {("y", "*"): whole[:3], ("z", "*"): whole[3:], ("*", "*"): whole}
    for norm in (2, np.inf):
        for per in ("row", "joint"):
            found = lipschitz_bounds(fn, x, 0.01, norm, "interval", per=per, restarts=0).check()
            assert set(found.point) == {p for p in blocks if (p[0] == "*") == (per == "joint")}
            for pair, point in found.point.items():
                assert point == pytest.approx(np.linalg.norm(blocks[pair], norm), rel=1e-5)
                assert point <= found.certified[pair] <= 1.1 * point


def test_settings_that_make_no_sense_are_refused():
    fn, x = (lambda d: {"y": d["a"]}), {"a": jnp.ones(2)}
    with pytest.raises(UnknownNameError, match="per"):
        lipschitz_bounds(fn, x, 0.1, per="rows")
    with pytest.raises(InputError, match="0 or more"):
        lipschitz_bounds(fn, x, 0.1, splits=-1)
