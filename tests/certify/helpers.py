"""Containment: sampled values of a function against its form over a set."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax.certify.affine import Scope
from mmx_jax.certify.evaluation import evaluate
from mmx_jax.certify.graph import flatten, trace
from mmx_jax.certify.interpret import interpret
from mmx_jax.certify.lift import rewrite
from mmx_jax.certify.ranges import shape_of, spread
from mmx_jax.certify.region import Region


def samples(rng, sizes, norm, count):
    """Points of a product of unit balls: inside, on the surface, and corners."""
    parts = [np.zeros((count, 0))]
    for size in sizes:
        u = rng.normal(size=(count, size))
        if norm == 2:
            u /= np.linalg.norm(u, axis=1, keepdims=True)
            u *= np.where(rng.random((count, 1)) < 0.5, 1.0, rng.random((count, 1)))
        else:
            u = np.where(rng.random((count, 1)) < 0.5, np.sign(u), rng.uniform(-1, 1, u.shape))
        parts.append(u)
    return np.concatenate(parts, 1)


@partial(jax.jit, static_argnums=(0, 3, 4, 5, 6))
def analyse(fn, inputs, radius, norm, degree, symbols, shaped=False):
    """The form's parts for every output entry: rows, noise and box summed, and the interval."""
    region = Region(inputs, radius, norm)
    closed = rewrite(flatten(trace(lambda v: fn(region.build(v)), region.vector())[0]))
    with jax.enable_x64(True):
        scope = Scope(region.ball, degree, symbols, shaped)
        (form,) = interpret(scope, closed, [region.form(degree)])
        linear, rest, low, high = spread(form, scope)
        noise = jnp.zeros(form.shape) if form.noises is None else jnp.abs(form.noises).sum(0)
        lin = jnp.zeros((region.ball.dim, *form.shape)) if form.lin is None else form.lin
        quad = jnp.zeros((region.ball.dim,) * 2 + form.shape) if form.quad is None else form.quad
        shape = shape_of(form, scope)
        shape = () if shape is None else (shape.bend, shape.flat)
        return form.center, lin, quad, noise + form.err[0], low, high, linear, rest, shape


@partial(jax.jit, static_argnums=(0,))
def values(fn, inputs, radius, points):
    """Values of the function at points of the set, in float64."""
    region = Region(inputs, radius, 2)
    closed = rewrite(flatten(trace(lambda v: fn(region.build(v)), region.vector())[0]))
    with jax.enable_x64(True):
        center, scales = region.vector().astype(jnp.float64), region.scales()
        return jax.vmap(lambda u: evaluate(closed, [center + scales * u])[0])(points)


def check(
    fn, inputs, radius, norm=2, degree=2, symbols=64, shaped=False, seed=0, count=400, slack=1e-9
):
    """Asserts that a form contains a function; returns the width of its interval."""
    sizes = [inputs[name].size for name in sorted(inputs)]
    with jax.enable_x64(True):
        u = samples(np.random.default_rng(seed), sizes, norm, count)
        exact = np.asarray(values(fn, inputs, radius, jnp.asarray(u)))
        parts = analyse(fn, inputs, radius, norm, degree, symbols, shaped)
    *parts, shape = parts
    c, lin, quad, loose, low, high, *_ = (np.asarray(p) for p in parts)
    scale = slack * (1 + np.abs(exact).max(initial=0))
    assert np.all(exact >= low - scale)
    assert np.all(exact <= high + scale)
    model = c + np.tensordot(u, lin, 1) + np.einsum("ni,nj,ij...->n...", u, u, quad)
    assert np.all(np.abs(exact - model) <= loose + scale)
    if shape:  # the remainder is small where its shape says so
        bend, flat = (np.asarray(v) for v in shape)
        loose = flat + np.einsum("ni,nj,ij...->n...", u, u, bend)
        plain = c + np.tensordot(u, lin, 1)
        assert np.all(np.abs(exact - plain) <= loose + scale)
    return float(np.max(high - low))
