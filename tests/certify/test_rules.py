"""Every rule contains its function over random sets, in every domain and both norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_jax.certify import act, composition, lipschitz_bounds, ranges, relaxations
from mmx_jax.errors import InputError

from .helpers import analyse, check

W = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
K = np.random.default_rng(2).normal(size=(3, 1, 2)).astype(np.float32)


def both(x):
    return jnp.concatenate([x["a"], x["b"]])


CASES = {
    "linear": lambda x: both(x) @ W,
    "sum": lambda x: jnp.sum(both(x) * both(x)[::-1]),
    "square": lambda x: both(x) * both(x),
    "outer": lambda x: x["a"][:, None] * x["b"][None],
    "dot": lambda x: jnp.dot(x["a"], x["a"] @ W[:3, :3]),
    "divide": lambda x: both(x) / (4.0 + jnp.sum(x["b"] ** 2)),
    "by constant": lambda x: (1.0 - both(x)) / 3.0,
    "maximum": lambda x: jnp.maximum(x["a"][:2], x["b"]),
    "minimum": lambda x: jnp.minimum(x["a"][:2], 0.3),
    "abs": lambda x: jnp.abs(both(x)),
    "norm": lambda x: x["a"] / jnp.sqrt(jnp.sum(x["a"] ** 2) + 0.5),
    "softmax": lambda x: jax.nn.softmax(both(x) @ W),
    "log-softmax": lambda x: jax.nn.log_softmax(both(x) @ W),
    "masked softmax": lambda x: jax.nn.softmax(
        jnp.where(jnp.arange(4) < 3, both(x) @ W, jnp.finfo(jnp.float32).min)
    ),
    "layer norm": lambda x: jax.nn.standardize(jnp.tanh(both(x) @ W)),
    "convolution": lambda x: jax.lax.conv_general_dilated(
        both(x)[None, :, None], K, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    ),
    "gather": lambda x: both(x)[jnp.array([3, 0, 0])] * jnp.array([1.0, -2.0, 3.0]),
    "select": lambda x: jnp.where(jnp.array([True, False, True]), x["a"], 2.0),
    "pad": lambda x: jnp.pad(both(x), (1, 2))[::-1].reshape(2, 4).T,
    "cumulative": lambda x: jnp.cumsum(both(x)),
    "sin": lambda x: jnp.sin(7 * both(x)) + jnp.cos(both(x)),
    "erf": lambda x: jax.lax.erf(both(x)) + jax.lax.erfc(both(x)[::-1]) * 2,
    "logistic": lambda x: jax.nn.sigmoid(both(x)) * jax.nn.silu(both(x)),
    "gelus": lambda x: jax.nn.gelu(both(x)) - jax.nn.gelu(both(x)[::-1], approximate=False),
    "exp": lambda x: jnp.exp(both(x)) + jnp.expm1(both(x)),
    "logs": lambda x: jnp.log(5.0 + both(x)) + jnp.log1p(4.0 + both(x)),
    "roots": lambda x: jnp.sqrt(5.0 + both(x)) + jax.lax.rsqrt(5.0 + both(x)),
    "elu": lambda x: jax.nn.elu(both(x)) + jax.nn.elu(both(x)[::-1], 0.3),
    "leaky": lambda x: jax.nn.leaky_relu(both(x), 0.2),
    "softplus": lambda x: jax.nn.softplus(3 * both(x)),
    "relu'": lambda x: act(both(x), "leaky_relu", 1, 0.2),
    "elu'": lambda x: act(both(x), "elu", 1, 0.3),
    "attention": lambda x: jax.nn.softmax(jnp.outer(x["a"], x["b"])) @ x["b"],
    "deep": lambda x: jnp.tanh(jnp.tanh(both(x) @ W) @ W.T),
    "less its mean": lambda x: jnp.tanh(both(x) - both(x).mean()),
    "scalars beside arrays": lambda x: W[:, 0] * x["b"][0] ** 2 + x["b"][0] ** 3,
    "cube": lambda x: both(x) ** 3 + (4.0 + both(x)) ** -2,
}
DOMAINS = [(2, 2, 64, True), (np.inf, 1, 0, False)]
COMPOSED = {"attention", "deep", "divide", "layer norm", "log-softmax", "masked softmax", "norm"}
"""Tried in the tightest domain alone: their pieces are cases too."""
RADII = [{"a": 0.4, "b": 0.1}, {"a": 0.0, "b": 0.05}, {"a": 1e-9, "b": 1.0}]


@pytest.mark.parametrize("name", CASES)
def test_contains(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    for domain in DOMAINS[: 1 if name in COMPOSED else 2]:
        for radius in RADII:
            x = {
                "a": jnp.asarray(0.7 * rng.normal(size=3), jnp.float32),
                "b": jnp.asarray(0.7 * rng.normal(size=2), jnp.float32),
            }
            width = check(CASES[name], x, radius, *domain)
            assert np.isfinite(width)


@pytest.mark.parametrize(
    "domain", [(2, 0, 0), (np.inf, 1, 99), (np.inf, 2, 0), (2, 2, 99), (np.inf, 2, 40, True)]
)
def test_domains_contain(domain):
    """A program of several kinds of rules, in domains that the single rules are not tried in."""
    names = ("attention", "gelus", "maximum")

    def mixed(x):
        return jnp.concatenate([jnp.ravel(CASES[n](x)) for n in names])

    x = {"a": jnp.array([0.3, -0.2, 0.9]), "b": jnp.array([-0.4, 0.1])}
    check(mixed, x, {"a": 0.2, "b": 0.3}, *domain)


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["gelu", "tanh", "silu", "softmax"]),
    scale=st.sampled_from([1e-310, 1e-30, 1e-3, 1.0, 30.0, 1e4]),
    radius=st.sampled_from([0.0, 1e-300, 1e-8, 1.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_contains_at_extremes(name, scale, radius, seed):
    """Degenerate, denormal and huge sets: bounds hold and are never NaN."""
    fn = getattr(jax.nn, name, jnp.tanh)
    x = {"a": jnp.asarray(scale * np.random.default_rng(seed).normal(size=3), jnp.float32)}
    check(fns(fn), x, {"a": radius}, degree=2, count=50)


_FNS = {}


def fns(fn):
    return _FNS.setdefault(fn, lambda x: fn(x["a"]))


@pytest.mark.parametrize("fn", [jnp.log, jnp.sqrt, jnp.reciprocal, jax.lax.rsqrt])
def test_pole_is_infinite(fn):
    x = {"a": jnp.array([0.5, 2.0])}
    assert np.isfinite(check(fns(fn), x, {"a": 0.4}, count=20))
    assert not np.isfinite(check(fns(fn), x, {"a": 0.6}, count=0))


def misses_less(*args):
    """The models of a nonlinear node with half of what they miss."""
    *model, missed = FITTED(*args)
    return (*model, 0.5 * missed)


FITTED = relaxations._fitted


def less(name):
    """The bound of that name with its spreading part at half."""
    kept = getattr(ranges, name)

    def half(*args):
        shape = kept(*args)
        return type(shape)(0.5 * shape.bend, 0.5 * shape.flat)

    return half


@pytest.mark.parametrize(
    ("place", "name", "wrong", "fn", "domain"),
    [
        (composition, "value_range", lambda *a: (0.9 * a[3], 0.9 * a[4]), "square", (2, 0, 0)),
        (composition, "up", lambda x, terms=1: 0.5 * x, "outer", (2, 1, 0)),
        (ranges, "ball_sum", lambda lin, ball: jnp.max(jnp.abs(lin), 0), "linear", (2, 1, 0)),
        (composition, "spread", lambda *a: [v / 2 for v in ranges.spread(*a)], "square", (2, 1, 0)),
        (relaxations, "_fitted", misses_less, "deep", (2, 2, 64)),
        (ranges, "absolute", less("absolute"), "outer", (2, 2, 64, True)),
        (ranges, "noise_shape", less("noise_shape"), "deep", (2, 2, 64, True)),
    ],
)
def test_mutations_are_caught(monkeypatch, place, name, wrong, fn, domain):
    """A bound that is wrong must fail these tests."""
    x = {"a": jnp.array([0.3, -0.2, 0.9]), "b": jnp.array([-0.4, 0.1])}
    monkeypatch.setattr(place, name, wrong)
    analyse.clear_cache()  # else a program traced with the right bound would run
    try:
        with pytest.raises(AssertionError):
            check(CASES[fn], x, {"a": 0.7, "b": 0.7}, *domain)
    finally:
        analyse.clear_cache()


def test_unknown_primitive_is_named_with_its_line():
    with pytest.raises(InputError, match=r"'sort' \(at .*test_rules.py:\d+.*rules for abs, act"):
        lipschitz_bounds(lambda d: {"y": jnp.sort(d["a"])}, {"a": jnp.ones(3)}, 0.1)
