"""Ranges and models of nonlinear functions against dense sampling and high precision."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_jax.certify.derivatives import NAMES, evaluate
from mmx_jax.certify.extremes import value_range
from mmx_jax.certify.relaxations import polynomial

PARAMETERS = {"leaky_relu": 0.2, "elu": 1.0, "power": -0.5}


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    order=st.integers(0, 3),
    middle=st.floats(-6, 6),
    radius=st.sampled_from([0.0, 1e-9, 0.01, 0.3, 2.0, 30.0]),
    degree=st.integers(0, 2),
)
def test_ranges_and_models_hold(name, order, middle, radius, degree):
    a = PARAMETERS.get(name, 0.0)
    positive = name in ("log", "log1p", "power")
    with jax.enable_x64(True):
        low, high = middle - radius, middle + radius
        if positive:
            low = max(low, 0.05)
            high = max(high, low)
        z = np.linspace(low, high, 2001)
        truth = np.asarray(evaluate(name, order, a, z, np)[0])
        ends = jnp.asarray(low), jnp.asarray(high)
        least, most = value_range(name, order, a, *ends)
        assert np.all(truth >= least)
        assert np.all(truth <= most)
        c = jnp.asarray(0.5 * (low + high))
        reach = jnp.asarray(max(high - float(c), float(c) - low))
        model = polynomial(name, order, a, c, *ends, reach, jnp.zeros(()), degree)
        d = z - float(c)
        value = float(model.constant) + float(model.slope) * d + float(model.curve) * d * d
        assert np.all(np.abs(truth - value) <= float(model.remainder) + 1e-13 * np.abs(truth))


@pytest.mark.parametrize("name", ["gelu", "tanh", "sigmoid", "softplus", "erf"])
def test_points_hold_in_high_precision(name):
    functions = {
        "gelu": lambda x: x * mpmath.ncdf(x),
        "tanh": mpmath.tanh,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
        "erf": mpmath.erf,
    }
    mpmath.mp.dps = 40
    points = np.concatenate([np.linspace(-9, 9, 31), [1e-12, -1e-300, 37.0, -37.0]])
    with jax.enable_x64(True):
        for order in range(4):
            low, high = value_range(name, order, 0.0, jnp.asarray(points), jnp.asarray(points))
            for x, a, b in zip(points, low, high, strict=True):
                truth = mpmath.diff(functions[name], mpmath.mpf(float(x)), order)
                assert mpmath.mpf(float(a)) - mpmath.mpf("1e-25") <= truth
                assert truth <= mpmath.mpf(float(b)) + mpmath.mpf("1e-25")
