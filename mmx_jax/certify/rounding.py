"""Outward rounding: margins that make float64 bounds hold in real arithmetic.

All bounds are computed in float64 (inside ``jax.enable_x64``) and widened: contractions by
``gamma_k |A| |x|`` with ``gamma_k = k u / (1 - k u)`` (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2002, chapter 3), which holds for every order of summation and for fused
multiply-adds; transcendental functions by :data:`ULPS` units in the last place, because XLA
evaluates them by polynomials; scalars by a relative step and an absolute one, because XLA flushes
denormals. :func:`margins` switches all of it off, for the test that must then fail.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

__all__ = ["TINY", "ULPS", "UNIT", "down", "gamma", "margins", "round_down", "round_up", "up"]

UNIT = 2.0**-53
"""Unit roundoff of float64."""

ULPS = 64.0
"""Assumed accuracy of transcendental functions, in units of ``UNIT`` of their terms' magnitude."""

TINY = 1e-290
"""Added to magnitudes, so that ``gamma_k`` times it covers flushed denormals."""

_state = {"on": True}


@contextlib.contextmanager
def margins(on: bool) -> Iterator[None]:
    """Switches the margins on or off for programs traced within; for tests only."""
    before = _state["on"]
    _state["on"] = on
    try:
        yield
    finally:
        _state["on"] = before


def gamma(terms: int) -> float:
    """Relative error bound of a sum of ``terms`` products, with room for a few more operations."""
    k = (terms + 8) * UNIT
    return k / (1 - k) if _state["on"] else 0.0


def up(x: Array, terms: int = 1) -> Array:
    """An upper bound of a non-negative result of ``terms`` operations on non-negative numbers."""
    return x * (1 + gamma(terms)) + (TINY if _state["on"] else 0.0)


def down(x: Array, terms: int = 1) -> Array:
    """A lower bound of such a result, not below zero."""
    return jnp.maximum(x * (1 - gamma(terms)) - (TINY if _state["on"] else 0.0), 0.0)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def round_up(x: Array, dtype: np.dtype) -> Array:
    """The value in ``dtype``, never smaller than ``x``; with slope 1, to train on bounds."""
    low = x.astype(dtype)
    return jnp.where(low.astype(x.dtype) >= x, low, jnp.nextafter(low, jnp.asarray(np.inf, dtype)))


@round_up.defjvp
def _round_up_slope(dtype: np.dtype, primals: Any, tangents: Any) -> tuple[Array, Array]:
    return round_up(primals[0], dtype), tangents[0].astype(dtype)


def round_down(x: Array, dtype: np.dtype) -> Array:
    """The value in ``dtype``, never larger than ``x``."""
    return -round_up(-x, dtype)
