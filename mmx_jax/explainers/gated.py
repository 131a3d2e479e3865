"""A small network that explains and whose stability is easy to certify: evidence times gates."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.errors import InputError
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record

__all__ = ["GatedNetwork"]

Layer = dict[str, Float[Array, "..."]]


def _layer(key: PRNGKey, *shape: int) -> Layer:
    return {
        "w": jax.random.normal(key, shape) / shape[-2] ** 0.5,
        "b": jnp.zeros(shape[:-2] + shape[-1:]),
    }


@record
class GatedNetwork:
    """Scores ``E_m,j = sum_h enc_mh(x_m,j) gate_mh(context)`` of every unit j of every modality m.

    ``enc`` reads one unit, ``context`` all inputs, both through one layer of tanh, and the gates
    are linear in the context: a product of two smooth shallow maps is all that a cross-modal
    explanation needs, and :func:`mmx_jax.certify.lipschitz_bounds` of it are nearly exact. It
    explains one output, and neither calls the model nor draws.

    Attributes:
      encode: per modality ``w [units, size, heads]`` and ``b [units, heads]``.
      context: ``w [all entries, width]`` and ``b [width]``.
      gates: per modality ``w [width, heads]`` and ``b [heads]``.

    >>> net = GatedNetwork.init(jax.random.key(0), {"a": jnp.ones(3), "b": jnp.ones((2, 4))})
    >>> {m: s.shape for m, s in net(None, {"a": jnp.ones(3), "b": jnp.ones((2, 4))}).items()}
    {'a': (3,), 'b': (2,)}
    """

    encode: dict[str, Layer]
    context: Layer
    gates: dict[str, Layer]

    @staticmethod
    def init(key: PRNGKey, inputs: Inputs, heads: int = 16, width: int = 32) -> "GatedNetwork":
        """Fresh weights for inputs of these shapes.

        Args:
          key: draws the weights.
          inputs: of one example: per modality a real array whose first axis counts its units.
          heads: terms of the sum.
          width: of the context.

        Raises:
          InputError: a modality that is no real array with a unit, or a size below 1.
        """
        if min(heads, width) < 1:
            raise InputError("heads, width", f"are {heads}, {width}", "use 1 or more")
        for name, x in inputs.items():
            if not (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) and x.size):
                raise InputError(
                    f"inputs[{name!r}]", "is no real array", "give [units] or [units, entries]"
                )
        names = sorted(inputs)
        total = sum(inputs[n].size for n in names)
        first, *keys = jax.random.split(key, 1 + 2 * len(names))
        rows = {n: (len(inputs[n]), inputs[n].size // len(inputs[n])) for n in names}
        return GatedNetwork(
            {n: _layer(k, *rows[n], heads) for n, k in zip(names, keys[::2], strict=True)},
            _layer(first, total, width),
            {n: _layer(k, width, heads) for n, k in zip(names, keys[1::2], strict=True)},
        )

    @property
    def evaluations(self) -> int:
        """None: the model is never called."""
        return 0

    def __call__(
        self,
        model: Model | None,
        inputs: Inputs,
        target: Target = 0,
        key: PRNGKey | None = None,
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; model, target and key are ignored."""
        del model, target, key
        whole = jnp.concatenate([jnp.ravel(inputs[n]) for n in sorted(self.encode)])
        context = jnp.tanh(whole @ self.context["w"] + self.context["b"])
        return {n: self._scores(n, inputs[n], context) for n in sorted(self.encode)}

    def _scores(self, name: str, x: Any, context: Array) -> Array:
        layer, gate = self.encode[name], self.gates[name]
        rows = jnp.reshape(x, layer["w"].shape[:2])
        evidence = jnp.tanh(jnp.einsum("us,ush->uh", rows, layer["w"]) + layer["b"])
        return evidence @ (context @ gate["w"] + gate["b"]) / layer["w"].shape[-1] ** 0.5
