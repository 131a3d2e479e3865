"""Choices by value: constant where the ranges leave none, never a finite bound where they do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.certify import CertificateError, deviation_bounds, lift, lipschitz_bounds
from mmx_jax.errors import InputError

X = {"x": jnp.array([0.6, -0.4, 2.2, 1.3])}
QUICK = {"restarts": 0, "method": "affine"}


def bounds(fn, *radii):
    """Point and certified constants at several radii, from one compilation."""

    @jax.jit
    def both(r):
        result = lipschitz_bounds(lambda d: {"y": fn(d["x"])}, X, r, **QUICK)
        return result.point["y", "x"], result.certified["y", "x"]

    return [tuple(map(float, both(r))) for r in radii]


# each jumps, and JAX's derivative says nothing of it
JUMPS = {
    "where": lambda x: jnp.where(x > 0, 1.0, 0.0),
    "mask": lambda x: (x <= 0.0).astype(x.dtype) * 3.0,
    "mixed": lambda x: jnp.where(x > 0, jnp.sin(x), 2 * x + 1),
    "floor": jnp.floor,
    "round": lambda x: jnp.round(x - 0.2),
    "sign": jnp.sign,
    "argmax": lambda x: x * (jnp.arange(4) == jnp.argmax(x * jnp.array([1, 1, 0.2, 0.2]))),
    "top-k": lambda x: jnp.zeros(4).at[jax.lax.top_k(x, 2)[1]].set(1.0) * x,
    "cond": lambda x: jax.lax.cond(jnp.all(x > -1), lambda v: v, lambda v: v * 5, x),
    "in a scan": lambda x: jax.lax.scan(lambda c, r: (c + jnp.where(r > 0, r, 1), r), 0.0, x)[0][
        None
    ],
}


@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_is_certified_only_where_the_choice_is_fixed(name):
    (point, certified), (_, loose) = bounds(JUMPS[name], 0.05, 1.5)
    assert point <= certified <= point * 1.1 + 1e-6
    assert loose == np.inf


def test_deviation_of_a_jump_is_infinite_where_it_is_open():
    fn = lambda d: {"y": JUMPS["where"](d["x"])}  # noqa: E731
    assert float(deviation_bounds(fn, X, 0.05, samples=4).certified["y"]) < 1e-6
    assert float(deviation_bounds(fn, X, 1.5, samples=4).certified["y"]) == np.inf


@pytest.mark.parametrize("fn", [lambda x: x.astype(int) * 1.0, lambda x: x % 0.7])
def test_jumps_without_a_rule_are_refused(fn):
    with pytest.raises(InputError, match=r"casts|'rem'"):
        bounds(fn, 0.05)


def test_values_of_the_k_largest():
    ((point, certified),) = bounds(lambda x: jax.lax.top_k(x, 2)[0] ** 2, 0.1)
    assert point == pytest.approx(4.4, rel=1e-5)
    assert certified == pytest.approx(4.6, rel=1e-3)


def test_loops_of_fixed_length_become_scans():
    def loop(x):
        return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, 1.5 * s[1]), (0, x))[1]

    assert bounds(loop, 0.1)[0] == pytest.approx((3.375, 3.375), rel=1e-5)
    lifted = lift(lambda d: jnp.tanh(loop(d["x"])), X)
    slope = jax.grad(lambda d: lifted(d)[0])(X)["x"][0]
    assert float(slope) == pytest.approx(3.375 * (1 - np.tanh(3.375 * 0.6) ** 2), rel=1e-4)

    def open_end(x):
        return jax.lax.while_loop(lambda v: v[0] < 9, lambda v: v * 2, x)

    with pytest.raises(InputError, match="number of rounds is not fixed"):
        bounds(open_end, 0.1)


def by_hand():
    @jax.custom_jvp
    def steep(x):
        return jnp.tanh(x)

    steep.defjvp(lambda p, t: (steep(*p), 7 * t[0]))

    @jax.custom_vjp
    def shallow(x):
        return jnp.tanh(x)

    shallow.defvjp(lambda x: (shallow(x), None), lambda _, g: (0 * g,))
    return {"steep": steep, "shallow": shallow}


@pytest.mark.parametrize("name", ["steep", "shallow"])
def test_derivatives_by_hand_are_refused_when_lifting(name):
    fn = by_hand()[name]
    with pytest.raises(InputError, match=rf"{name}.*derivative written by hand.*test_decisions"):
        lift(lambda d: fn(d["x"]), X)
    # the value's own constant is what a value has
    ((point, certified),) = bounds(fn, 0.01)
    assert point == pytest.approx(1 - np.tanh(0.4) ** 2, rel=1e-4)
    assert point <= certified <= 1.02 * point
    # and an explainer of the model as it is uses the derivative that JAX uses
    slopes = lipschitz_bounds(jax.grad(lambda v: jnp.sum(fn(v["x"] ** 2))), X, 0.01, **QUICK)
    expected = {"steep": 14.0, "shallow": 0.0}[name]
    assert float(slopes.certified["x", "x"]) == pytest.approx(expected, rel=1e-5)


def test_poles_and_jumps_say_what_to_do():
    result = lipschitz_bounds(lambda d: {"y": 1 / d["x"]}, X, 0.5, **QUICK)
    with pytest.raises(CertificateError, match=r"pole.*reduce the radius"):
        result.check()
    lipschitz_bounds(lambda d: {"y": 1 / d["x"]}, X, 0.2, **QUICK).check()
