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
    [("layers", "full"), ("layers", "shaped"), ("summed", "shaped"), ("stacked", "quadratic")],
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
