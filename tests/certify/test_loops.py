"""Scans: as tight as the unrolled program where there is room for symbols, sound where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.certify import lipschitz_bounds
from mmx_jax.certify.program import program_sizes
from tests.certify.helpers import check

ROUNDS = 3
WEIGHTS = jnp.asarray(np.random.default_rng(0).normal(size=(ROUNDS, 3, 3)))
INPUTS = {"x": jnp.array([0.3, -0.7, 0.2])}
DOMAINS = {"full": (1, False), "quadratic": (2, False), "shaped": (2, True)}


def layer(h, w):
    return jnp.tanh(h @ w) * h


def layers(scan):
    """A carry that goes through every round."""
    return lambda d: scan(lambda h, w: (layer(h, w), None), d["x"], WEIGHTS)[0]


def summed(scan):
    """A sum of what every round makes anew."""

    def fn(d):
        step = lambda total, w: (total + layer(d["x"], w), None)  # noqa: E731
        return scan(step, jnp.zeros(3), WEIGHTS)[0]

    return fn


def stacked(scan):
    """Results of all rounds, used together by the next scan, which runs backwards."""

    def fn(d):
        last, ys = scan(lambda h, w: (layer(h, w), h * h), d["x"], WEIGHTS)
        step = lambda t, y: (jnp.tanh(t - y), None)  # noqa: E731
        return scan(step, last, ys, reverse=True)[0] - ys.sum(0)

    return fn


def nested(scan):
    """A loop in a loop, whose carry knows the symbols of the outer one's rounds."""

    def fn(d):
        def outer(h, w):
            inner, _ = scan(lambda g, v: (g + jnp.sin(g * v), None), h, w)
            return inner + jnp.cos(d["x"]), None

        return scan(outer, d["x"], WEIGHTS[:3])[0]

    return fn


def unrolled(step, carry, xs, reverse=False):
    ys = []
    for x in xs[::-1] if reverse else xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, None if y is None else jnp.stack(ys[::-1] if reverse else ys)


PROGRAMS = {fn.__name__: fn for fn in (layers, summed, stacked, nested)}


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("layers", "full"),
        ("layers", "shaped"),
        ("summed", "shaped"),
        ("stacked", "quadratic"),
        ("nested", "full"),
    ],
)
def test_as_tight_as_unrolled(name, domain):
    degree, shaped = DOMAINS[domain]
    settings = {"degree": degree, "shaped": shaped, "symbols": 4096, "count": 200}
    loop = check(PROGRAMS[name](jax.lax.scan), INPUTS, 0.1, **settings)
    plain = check(PROGRAMS[name](unrolled), INPUTS, 0.1, **settings)
    np.testing.assert_allclose(loop, plain, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "domain"),
    [("layers", "quadratic"), ("summed", "shaped"), ("stacked", "full"), ("nested", "shaped")],
)
def test_sound_whatever_the_budget(name, domain):
    degree, shaped = DOMAINS[domain]
    widths = [
        check(
            PROGRAMS[name](jax.lax.scan),
            INPUTS,
            0.1,
            degree=degree,
            shaped=shaped,
            symbols=symbols,
            count=200,
        )
        for symbols in (0, 20, 4096)
    ]
    assert widths[-1] <= widths[0]  # a symbol remembers what a box forgets


def test_a_deep_scan_is_bounded_as_its_layers_are():
    """Once remainders became boxes at the end of every round: 5e7 at 16 layers."""
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(16, 8, 8))) / 8**0.5

    def model(d):
        h = jnp.concatenate([d["a"], d["b"]])
        return {"y": jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), h, weights)[0]}

    x = {"a": jnp.linspace(-1, 1, 4), "b": jnp.linspace(1, 0, 4)}
    found = lipschitz_bounds(model, x, 0.01, method="full", restarts=0)
    for pair in found.point:
        assert found.certified[pair] <= 1.5 * found.point[pair]


def test_a_program_counts_what_every_round_makes():
    closed = jax.make_jaxpr(layers(jax.lax.scan))(INPUTS)
    largest, nonlinear = program_sizes(closed)
    # of 3 entries each: tanh, h @ w and a product
    assert nonlinear == 1 + (ROUNDS + 1) * (1 + 3 * 3)
    assert largest >= 3


def crowded(width):
    """After an inner loop, whose symbols do not all fit, comes an operation that would."""

    def fn(d):
        def step(h, _):
            g, _ = jax.lax.scan(lambda g, _: (jnp.tanh(g), None), h, None, length=4)
            return 0.001 * g + jnp.tanh(jnp.broadcast_to(h, (width,))).sum()[None] / width, None

        return jax.lax.scan(step, d["x"], None, length=1)[0] - 0.628 * d["x"]

    return fn


@pytest.mark.parametrize("width", [8, 12])
def test_a_round_makes_no_more_symbols_than_it_has_places(width):
    """Once it overwrote those of other rounds, and certified .15 where .29 is true."""
    for symbols in (12, 60):
        check(crowded(width), {"x": jnp.zeros(1)}, 2.0, degree=1, symbols=symbols)


def test_an_inner_loop_of_its_own_beside_shapes_of_other_rounds():
    def fn(d):
        def step(h, _):
            def inner(g, w):
                return g + jnp.tanh(jnp.broadcast_to(w * d["x"], (6,))).sum()[None], None

            g, _ = jax.lax.scan(inner, 0 * h, jnp.linspace(0.5, 1, 8, dtype=h.dtype))
            return jnp.tanh(h) + 0.1 * g, None

        return jax.lax.scan(step, d["x"], None, length=3)[0]

    check(fn, {"x": jnp.array([0.3])}, 0.5, degree=2, shaped=True, symbols=20)


CARRIES = {
    "a constant beside it": lambda d: jax.lax.scan(
        lambda c, _: ((jnp.tanh(c[0] * c[1]), c[1] * 0.9), None),
        (d["x"], jnp.float32(1)),
        None,
        length=3,
    )[0][0],
    "arctangents of constants": lambda d: jax.lax.scan(
        lambda h, t: (h * jnp.arctan(t), None), d["x"], jnp.linspace(0.1, 1, 4)
    )[0],
    "no round at all": lambda d: jax.lax.scan(
        lambda h, w: (jnp.tanh(h @ w), None), d["x"], jnp.zeros((0, 3, 3))
    )[0],
}


@pytest.mark.parametrize("name", CARRIES)
def test_sandwiches_of_loops_hold(name):
    """Constants in loops are computed in float64 by every pass, however they reach them."""
    inputs = {"x": INPUTS["x"].astype(jnp.float32)}
    found = lipschitz_bounds(lambda d: {"y": CARRIES[name](d)}, inputs, 0.05, restarts=2, steps=4)
    (pair,) = found.point
    assert found.certified[pair] <= 1.2 * found.searched[pair]
