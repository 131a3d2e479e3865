"""A problem small enough to train on in seconds, with its contributions in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmx_jax as mmx
from mmx_jax import Modality
from mmx_jax.typing import record

collect_ignore = ["tiny.py"]  # a script that the tests start

A, B, C = np.array([1.0, -2.0, 0.5]), np.array([0.3, 0.7, -0.4]), np.array([1.5, -0.5])


@record
class Bilinear:
    """``v = a.x + (b.x) (c.y)`` and its negative."""

    a: jax.Array
    b: jax.Array
    c: jax.Array

    def __call__(self, inputs):
        v = self.a @ inputs["x"] + (self.b @ inputs["x"]) * (self.c @ inputs["y"])
        return jnp.stack([-v, v])


@record
class Normal:
    """A sampler of both tables and the sign of their product."""

    def __call__(self, key, n):
        x, y = jax.random.split(key)
        inputs = {"x": jax.random.normal(x, (n, 3)), "y": jax.random.normal(y, (n, 2))}
        return inputs, (inputs["x"][:, 0] > 0).astype(jnp.int32)


@pytest.fixture
def modalities():
    return {"x": Modality.columns(3), "y": Modality.columns(2)}


@pytest.fixture
def gates(modalities):
    return mmx.FeatureGates(modalities)


@pytest.fixture
def model():
    return Bilinear(*(jnp.asarray(w, jnp.float32) for w in (A, B, C)))


@pytest.fixture
def sample():
    return Normal()


@pytest.fixture
def truth():
    """Within-modality contributions: each game is additive while the other modality is fixed."""

    def explain(inputs):
        return {
            "x": (A + B * (C @ inputs["y"])) * inputs["x"],
            "y": (B @ inputs["x"]) * C * inputs["y"],
        }

    return explain
