"""Small models whose effects and interactions are known in closed form, and tiny explainers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax import FeatureGates, Modality, as_model, derive_keys
from mmx_jax.desiderata import Examples, model_effects
from mmx_jax.games import memberships, shapley_values
from mmx_jax.gates import unflatten
from mmx_jax.intervention import value, within
from mmx_jax.typing import record, static

GATES = FeatureGates({"a": Modality.columns(4), "b": Modality.columns(3)})
UNITS = {"a": 4, "b": 3}


def model_of(fn):
    """A model with two outputs, of which the first is explained."""
    return as_model(lambda x: jnp.stack([fn(x["a"], x["b"]), jnp.zeros(())]))


LINEAR = model_of(
    lambda a, b: a @ jnp.array([1.0, -2.0, 0.0, 3.0]) + b @ jnp.array([0.5, 0.0, -1.0])
)
XOR = model_of(lambda a, b: 0.25 + a[1] * b[2])  # not 0 at the reference
REDUNDANT = model_of(lambda a, b: jnp.maximum(a[0], b[0]) - 0.001 * (a[0] + b[0]))
DUPLICATED = model_of(lambda a, b: jnp.maximum(a[0], a[2]))
CANCELLING = model_of(lambda a, b: a[0] - a[1])
UNUSED = model_of(lambda a, b: a[0])
MODELS = {
    "linear": LINEAR,
    "xor": XOR,
    "redundant": REDUNDANT,
    "duplicated": DUPLICATED,
    "cancelling": CANCELLING,
    "unused": UNUSED,
}


effects_of = jax.jit(model_effects, static_argnames=("constants", "chunk"))
"""Compiled, because most of the time of these tests is compilation of single operations."""


def bare(cls, **fields):
    """A record with a leading axis of examples, as vmap makes it."""
    out = object.__new__(cls)
    for f in dataclasses.fields(cls):
        object.__setattr__(out, f.name, fields.get(f.name))
    return out


def one_row(tree):
    """A batch of one."""
    return jax.tree.map(lambda x: x[None], tree)


def ones(a=(1.0,) * 4, b=(1.0,) * 3):
    """One example."""
    return {"a": jnp.array(a), "b": jnp.array(b)}


def batch(n, seed=0, signs=True):
    """Examples of signs (or normal numbers)."""
    k1, k2 = jax.random.split(jax.random.key(seed))
    draw = jax.random.rademacher if signs else jax.random.normal
    inputs = {
        "a": draw(k1, (n, 4)).astype(jnp.float32),
        "b": draw(k2, (n, 3)).astype(jnp.float32),
    }
    return Examples(inputs, np.zeros(n, int), derive_keys(seed, "test", n))


@record
class Known:
    """Exact Shapley values within each modality, or over all units."""

    over_all: bool = static(default=False)
    factor: float = static(default=1.0)

    evaluations = 24

    def __call__(self, model, inputs, target, key):
        if self.over_all:
            players = memberships(7)
            table = jax.vmap(lambda g: value(GATES, model, inputs, target, unflatten(g, UNITS)))(
                players
            )
            return unflatten(shapley_values(table), UNITS)
        return {
            m: self.factor
            * shapley_values(jax.vmap(within(GATES, model, inputs, target, m))(memberships(u)))
            for m, u in UNITS.items()
        }


@record
class Fn:
    """An explainer made of a function ``(inputs, key) -> scores``."""

    fn: object = static()

    evaluations = 0

    def __call__(self, model, inputs, target, key):
        return self.fn(inputs, key)


def constant(inputs, key):
    return {m: jnp.ones(u) for m, u in UNITS.items()}


def random(inputs, key):
    return {
        m: jax.random.normal(jax.random.fold_in(key, i), (u,))
        for i, (m, u) in enumerate(UNITS.items())
    }


def reference_detector(inputs, key):
    return {m: (inputs[m] == 0).astype(jnp.float32) for m in UNITS}


@record
class Uniform:
    """The right mass of each modality, spread evenly."""

    evaluations = 0

    def __call__(self, model, inputs, target, key):
        known = Known()(model, inputs, target, key)
        return {m: jnp.full(s.shape, jnp.sum(s) / s.shape[0]) for m, s in known.items()}
