"""Every supported operation as a map of a vector, and random chains of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["OPERATIONS", "SMOOTH", "WIDTH", "structure"]

WIDTH = 6
"""Entries of every hidden vector, and rows and columns of every weight."""


def _attention(w: Any, z: Any, mask: Any = None) -> Any:
    """Three tokens of two entries."""
    t = z.reshape(3, 2)
    scores = (t @ w[:2, :2]) @ (t @ w[2:4, :2]).T
    scores = scores if mask is None else jnp.where(mask, scores, -jnp.inf)
    return (jax.nn.softmax(scores) @ t).ravel() + 0.5 * z


def _scan(w: Any, z: Any) -> Any:
    return jax.lax.scan(lambda c, _: (jnp.tanh(w @ c), c[0]), z, None, length=2)[0]


def _conv(w: Any, z: Any) -> Any:
    kernel = w[:3, :1, None]
    numbers = ("NWC", "WIO", "NWC")
    out = jax.lax.conv_general_dilated(z[None, :, None], kernel, (1,), "SAME", None, None, numbers)
    return out.ravel()


def _layer_norm(w: Any, z: Any) -> Any:
    centered = z - jnp.mean(z)
    return centered * jax.lax.rsqrt(jnp.mean(centered**2) + 0.1) + w[0]


Operation = Callable[[Any, Any], Any]

_SMOOTH: dict[str, Operation] = {
    "attention": _attention,
    "average pooling": lambda w, z: jnp.repeat(z.reshape(3, 2).mean(1), 2) + z,
    "convolution": _conv,
    "cosine": lambda w, z: jnp.cos(2 * z),
    "cross product": lambda w, z: z * (w @ z),
    "cumulative sum": lambda w, z: 0.5 * jnp.cumsum(z),
    "division": lambda w, z: z / (2.0 + (w @ z) ** 2),
    "erf": lambda w, z: jax.lax.erf(z) - jax.lax.erfc(z[::-1]),
    "exp": lambda w, z: jnp.exp(0.3 * z) - jnp.expm1(0.1 * z[::-1]),
    "gather": lambda w, z: z[jnp.array([5, 0, 0, 2, 1, 4])],
    "gelu": lambda w, z: jax.nn.gelu(z),
    "gelu exact": lambda w, z: jax.nn.gelu(z, approximate=False),
    "layer norm": _layer_norm,
    "log": lambda w, z: jnp.log(2.0 + z * z) + jnp.log1p(jnp.exp(0.5 * z)),
    "log-softmax": lambda w, z: jax.nn.log_softmax(z),
    "logsumexp": lambda w, z: z * jax.nn.logsumexp(z, keepdims=True),
    "masked attention": lambda w, z: _attention(w, z, jnp.tril(jnp.ones((3, 3), bool))),
    "matrix power": lambda w, z: (z.reshape(2, 3) @ z.reshape(3, 2)).ravel()[
        jnp.array([0, 1, 2, 3, 0, 1])
    ],
    "padding": lambda w, z: jnp.pad(z[1:4], (1, 2)) - z,
    "power": lambda w, z: z**3 / 4 + (3.0 + z * z) ** -2,
    "rms norm": lambda w, z: z * jax.lax.rsqrt(jnp.mean(z**2) + 0.1) * w[1],
    "root": lambda w, z: jnp.sqrt(1.0 + z * z),
    "scan": _scan,
    "select": lambda w, z: jnp.where(jnp.arange(WIDTH) % 2 == 0, z, jnp.sin(z)),
    "sigmoid": lambda w, z: 2 * jax.nn.sigmoid(z),
    "silu": lambda w, z: jax.nn.silu(z),
    "sine": lambda w, z: jnp.sin(z),
    "softmax": lambda w, z: 3 * jax.nn.softmax(z),
    "softplus": lambda w, z: jax.nn.softplus(z),
    "stack": lambda w, z: jnp.stack([z[:3], jnp.tanh(z[3:])]).T.ravel(),
    "tanh": lambda w, z: jnp.tanh(z),
}

_KINKED: dict[str, Operation] = {
    "absolute": lambda w, z: jnp.abs(z),
    "clip": lambda w, z: jnp.clip(z, -0.5, 0.7),
    "elu": lambda w, z: jax.nn.elu(z),
    "leaky relu": lambda w, z: jax.nn.leaky_relu(z, 0.2),
    "max pooling": lambda w, z: jnp.repeat(z.reshape(3, 2).max(1), 2) + 0.1 * z,
    "maximum": lambda w, z: jnp.maximum(z, z[::-1]),
    "minimum": lambda w, z: jnp.minimum(z, w[0]),
    "relu": lambda w, z: jax.nn.relu(z),
    "threshold": lambda w, z: jnp.where(z > 0.1, z, 0.2 * z + 0.08),
}

SMOOTH = frozenset(_SMOOTH)
"""The operations whose derivative is continuous."""

OPERATIONS: dict[str, Operation] = _SMOOTH | _KINKED
"""Every operation, ``(weights [6, 6], vector [6]) -> vector [6]``."""


def structure(rng: np.random.Generator) -> tuple[list[str], Callable[[Any, Any], Any]]:
    """Two or three operations in a row with linear maps between, from 5 entries to 3.

    Returns:
      their names, and a function of weights ``[6, 6, 6]`` and the input ``[5]``.
    """
    pool = sorted(SMOOTH if rng.random() < 0.6 else OPERATIONS)
    names = [pool[i] for i in rng.choice(len(pool), size=int(rng.integers(2, 4)), replace=False)]

    def apply(weights: Any, x: Any) -> Any:
        z = x @ weights[0][:5] + weights[1][0]
        for k, name in enumerate(names):
            z = OPERATIONS[name](weights[k + 1], z)
            z = z @ weights[k + 2] + weights[1][k + 1]
        return z[:3]

    return names, apply
