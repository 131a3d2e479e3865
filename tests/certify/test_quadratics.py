"""Suprema of quadratic functions over balls, and the norm of a matrix with a leading entry."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.certify import leading as module
from mmx_jax.certify.affine import Ball
from mmx_jax.certify.leading import leading
from mmx_jax.certify.quadratics import quadratic_top

from .helpers import samples

SIZES = (3, 2)
bound = jax.jit(jax.vmap(lambda lin, quad: quadratic_top(lin, quad, SIZES)))


def problems(rng, count=60):
    """Linear and quadratic parts of all kinds and sizes, some of them zero."""
    lin = rng.normal(size=(count, 5)) * 10.0 ** rng.integers(-4, 5, (count, 1))
    quad = rng.normal(size=(count, 5, 5)) * 10.0 ** rng.integers(-4, 5, (count, 1, 1))
    lin[:5], quad[5:10] = 0, 0
    quad[10:20] = -quad[10:20] @ np.swapaxes(quad[10:20], 1, 2)
    return lin, quad


def climbed(lin, quad, u):
    """The best of many points, each improved by steps that never go down."""
    both = 0.5 * (quad + quad.T)
    shift = np.abs(both).sum() + 1e-300
    for _ in range(300):
        u = lin + 2 * u @ both + 2 * shift * u
        parts = np.split(u, np.cumsum(SIZES)[:-1], axis=1)
        sizes = [np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 2 * shift) for p in parts]
        u = np.concatenate([p / s for p, s in zip(parts, sizes, strict=True)], 1)
    return np.max(u @ lin + np.einsum("ni,ij,nj->n", u, quad, u))


def test_quadratic_functions_are_bounded_and_tightly():
    rng = np.random.default_rng(0)
    lin, quad = problems(rng)
    with jax.enable_x64(True):
        tops = np.asarray(bound(jnp.asarray(lin), jnp.asarray(quad)))
    u = samples(rng, SIZES, 2, 64)
    ratios, excess = [], []
    for top, line, bend in zip(tops, lin, quad, strict=True):
        found = climbed(line, bend, u)
        assert found <= top * (1 + 1e-12)
        ratios.append(top / found if found > 0 else 1.0)
        if np.linalg.norm(line) > 0.1 * np.linalg.norm(bend):
            excess.append(top / found)
    assert np.median(ratios) < 1 + 1e-4  # there is a gap for two balls at once only
    assert len(excess) > 30
    assert max(excess) < 1.2


def test_linear_functions_on_a_box_hold_in_exact_arithmetic():
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        tight = jax.jit(lambda lin: quadratic_top(lin, jnp.zeros((5, 5)), (1,) * 5))
        for scale in (1e-200, 1e-3, 1.0, 1e200):
            line = scale * rng.normal(size=5)
            truth = sum(abs(Fraction(float(v))) for v in line)
            top = Fraction(float(tight(line)))
            assert truth <= top <= truth * Fraction(1000001, 1000000)
        assert np.isinf(tight(jnp.full(5, np.inf)))
        assert np.isnan(tight(jnp.full(5, np.nan))) or np.isinf(tight(jnp.full(5, np.nan)))


def test_multipliers_that_are_too_small_are_made_good(monkeypatch):
    """Newton's steps are not trusted: with any multipliers the bound holds."""
    rng = np.random.default_rng(2)
    lin, quad = problems(rng, 30)
    cholesky = jax.lax.linalg.cholesky
    shifted = lambda m, **settings: cholesky(m + 10 * jnp.eye(5), **settings)  # noqa: E731
    monkeypatch.setattr(jax.lax.linalg, "cholesky", shifted)
    u = samples(rng, SIZES, 2, 32)
    with jax.enable_x64(True):
        wrong = jax.jit(jax.vmap(lambda lin, quad: quadratic_top(lin, quad, SIZES)))
        tops = np.asarray(wrong(jnp.asarray(lin), jnp.asarray(quad)))
    for top, line, bend in zip(tops, lin, quad, strict=True):
        assert climbed(line, bend, u) <= top * (1 + 1e-12)


def norms_and_bounds(shape, radii):
    """Largest norm found, the bound and the one it improves on, of random matrices of forms."""
    rng = np.random.default_rng(3)
    center = np.zeros(shape)
    np.fill_diagonal(center, [3.0, 1.0, 0.5, 0.2])
    lin, quad = rng.normal(size=(5, *shape)), rng.normal(size=(5, 5, *shape))
    noise = 1e-7

    @jax.jit
    def of(radius):
        line, bend = radius * lin, radius**2 * quad
        curved = jnp.sum(jnp.abs(bend), (0, 1)) + noise
        entry = jnp.abs(center) + jnp.sqrt(2.0) * jnp.linalg.norm(line, axis=0) + curved
        known = jnp.linalg.norm(entry, 2)
        quads = bend[..., 0, 0], jnp.asarray(noise)
        return leading(jnp.asarray(center), line, entry, curved, *quads, Ball(SIZES), known), known

    u = samples(rng, SIZES, 2, 4000)
    for radius in radii:
        with jax.enable_x64(True):
            top, known = map(float, of(radius))
        moved = np.einsum("ni,ipq->npq", radius * u, lin)
        moved += np.einsum("ni,nj,ijpq->npq", u, u, radius**2 * quad)
        yield np.linalg.norm(center + moved, 2, axis=(1, 2)).max(), top, known


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (4, 4)])
def test_norms_with_a_leading_entry(shape):
    """Bounds hold, and at small radii exceed the largest norm by little of what moves."""
    rows = list(norms_and_bounds(shape, (0.2, 0.05, 0.01)))
    assert all(found <= top <= known for found, top, known in rows)
    found, top, _ = rows[-1]
    assert top - found < 0.1 * (found - 3.0)


def test_a_leading_entry_that_moves_too_little_is_caught(monkeypatch):
    monkeypatch.setattr(module, "quadratic_top", lambda *args: 0.8 * quadratic_top(*args))
    ((found, top, _),) = norms_and_bounds((3, 4), (0.05,))
    assert top < found
