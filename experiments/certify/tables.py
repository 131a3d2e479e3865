"""The rows of the tightness table: a network, an explanation, a norm, and the targets by radius."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.certify.nets import Net, attention, late, mlp

__all__ = ["ROWS", "Row", "gradient", "integrated", "jacobian"]


def gradient(model: Any) -> Any:
    """The gradient explainer, of the first logit."""
    return jax.grad(lambda y: model(y)[0])


def jacobian(model: Any) -> Any:
    """The model's own outputs: their Lipschitz constant is the norm of its Jacobian."""
    return lambda x: {"logits": model(x)}


def integrated(model: Any, steps: int = 32, chunk: int = 8) -> Any:
    """Integrated gradients from zero, midpoint rule, a chunk of steps at a time in a scan."""

    def explain(x: Any) -> Any:
        def slopes(t: Any) -> Any:
            return gradient(model)(jax.tree.map(lambda v: t * v, x))

        def body(total: Any, ts: Any) -> Any:
            part = jax.tree.map(lambda v: jnp.sum(v, 0), jax.vmap(slopes)(ts))
            return jax.tree.map(jnp.add, total, part), None

        ts = ((jnp.arange(steps) + 0.5) / steps).reshape(-1, chunk)
        total, _ = jax.lax.scan(body, jax.tree.map(jnp.zeros_like, x), ts)
        return jax.tree.map(lambda g, v: g * v / steps, total, x)

    return explain


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
      name: on the command line, without blanks.
      title: in words.
      net: the network.
      explain: from the lifted model to the explanation.
      targets: largest ratio that is wanted, by radius.
      norm: 2 or inf.
      memory: bytes that the largest value of the analysis may take.
      slow: left out unless asked for by name.
      heavy: its program runs long enough to be optimised.
      method: the domain.
    """

    name: str
    title: str
    net: Net
    explain: Callable[[Any], Any]
    targets: dict[float, float]
    norm: float = 2
    memory: float = 64e6
    slow: bool = False
    heavy: bool = False
    method: str = "auto"


_GELU = jax.nn.gelu
_SMALL = {0.01: 1.02, 0.05: 1.12, 0.1: 1.30}
_WIDE, _DEEP, _LARGE = (32, 32), (64, 64, 64), (256, 256, 256, 256)

ROWS = (
    Row("gelu", "gradient, gelu 2 x 32", mlp(_WIDE, _GELU), gradient, _SMALL),
    Row("tanh", "gradient, tanh 2 x 32", mlp(_WIDE, jnp.tanh), gradient, _SMALL),
    Row(
        "inf",
        "gradient, gelu 2 x 32, inf to inf",
        mlp(_WIDE, _GELU),
        gradient,
        {0.01: 1.05, 0.05: 1.45, 0.1: 2.5},
        np.inf,
    ),
    Row(
        "deep",
        "gradient, gelu 3 x 64",
        mlp(_DEEP, _GELU),
        gradient,
        {0.01: 1.05, 0.05: 1.5, 0.1: 3.0},
    ),
    Row(
        "jacobian",
        "Jacobian, tanh 3 x 64",
        mlp(_DEEP, jnp.tanh),
        jacobian,
        {0.01: 1.02, 0.1: 1.35},
        method="shaped",
    ),
    Row(
        "large",
        "Jacobian, tanh 4 x 256",
        mlp(_LARGE, jnp.tanh),
        jacobian,
        {0.01: 1.05, 0.1: 4.0},
        heavy=True,
        method="shaped",
    ),
    Row(
        "integrated",
        "integrated gradients, 32 steps, gelu 2 x 32",
        mlp(_WIDE, _GELU),
        integrated,
        {0.01: 1.02, 0.05: 1.1, 0.1: 1.18},
        heavy=True,
        method="shaped",
    ),
    Row(
        "late",
        "late fusion, gelu, gradient, all four blocks",
        late(_GELU),
        gradient,
        {0.01: 1.04, 0.05: 1.3, 0.1: 2.0},
    ),
    Row(
        "attention",
        "attention + LayerNorm, 8 tokens, d 16: Jacobian of logits",
        attention(),
        jacobian,
        {0.01: 1.03, 0.05: 5.0},
        heavy=True,
    ),
    Row(
        "attention-gradient",
        "the same: gradient explainer",
        attention(),
        gradient,
        {0.001: 1.5, 0.01: 3.0},
        slow=True,
        heavy=True,
    ),
)
