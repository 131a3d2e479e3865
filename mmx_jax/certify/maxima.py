"""Maxima as pairwise ones, and those as relu: the only form in which they are analysed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax.certify.activations import act

__all__ = ["highest", "maximum", "windows"]


def maximum(x: Any, y: Any) -> Any:
    """``y + relu(x - y)``, with the variable first where the other is the constant 0."""
    if _known(x) and not np.ndim(x):
        x, y = y, x
    if _known(y) and np.all(y == -np.inf):
        return x
    if _known(y) and np.all(y == 0):
        return act(x, "leaky_relu")
    return y + act(x - y, "leaky_relu")


def _known(x: Any) -> bool:
    return isinstance(x, float | np.generic | np.ndarray)


def highest(x: Any, axes: Any) -> Any:
    """The maximum over axes as a tree of pairwise ones."""
    axes = tuple(int(a) for a in axes)
    kept = [s for i, s in enumerate(x.shape) if i not in axes]
    x = jnp.moveaxis(x, axes, range(len(axes))).reshape(-1, *kept)
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        pairs = maximum(x[:half], x[half : 2 * half])
        x = jnp.concatenate([pairs, x[2 * half :]])
    return x[0]


def windows(eqn: Any, read: Callable[[Any], Any]) -> Any:
    """The entries of max pooling's windows along a new leading axis; None where it pads."""
    p, x = eqn.params, read(eqn.invars[0])
    if any(a or b for a, b in p["padding"]) or any(d != 1 for d in p["base_dilation"]):
        return None
    out, strides, spread = eqn.outvars[0].aval.shape, p["window_strides"], p["window_dilation"]
    parts = []
    for corner in np.ndindex(*p["window_dimensions"]):
        start = [c * d for c, d in zip(corner, spread, strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, out, strides, strict=True)]
        parts.append(jax.lax.slice(x, start, stop, strides))
    return jnp.stack(parts)
