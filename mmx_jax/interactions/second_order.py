"""Second-order cross-modal gradients (MultiViz): how units of two modalities bend the output.

Liang et al., *MultiViz: Towards Visualizing and Understanding Multimodal Models* (ICLR 2023),
after Friedman and Popescu (2008): a function without interaction of a and b has
``d2 f / da db = 0`` everywhere. It is a local measure: ReLU networks are piecewise linear, so it
vanishes almost everywhere on them, and models should use smooth activations.
"""

from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from mmx_jax.errors import InputError
from mmx_jax.interactions.pairs import PairScores
from mmx_jax.intervention import FeatureGates, value
from mmx_jax.mapping import map_stacked
from mmx_jax.model import pick
from mmx_jax.numerics import is_inexact
from mmx_jax.typing import Inputs, Model, PRNGKey, Target, record, static

__all__ = ["SecondOrderGradients"]


@record
class SecondOrderGradients:
    """Pairs scored by the mixed second derivative of the output.

    With ``multiply_by_inputs`` the score of units u and w is ``d2 v / dg_u dg_w`` at open gates,
    that is ``(x - r)_u H_uw (x - r)_w`` with the Hessian H and the reference r; for a model that
    is bilinear across the two modalities it is the exact interaction of u and w, others intact.
    Without it, the sum of the entries of ``H_uw``, as MultiViz has it.

    Attributes:
      intervention: the units, and the reference (marginal ones are averaged over).
      multiply_by_inputs: whether the difference to the reference is multiplied in.
      chunk: second derivatives (one per unit) computed at once.
    """

    intervention: FeatureGates
    multiply_by_inputs: bool = static(default=True)
    chunk: int | None = static(default=None)

    @property
    def evaluations(self) -> int:
        """Gradients of gradients: one per unit of all modalities but the last (and draw)."""
        units = list(self.intervention.units.values())
        return sum(units[:-1]) * (self.intervention.draws if self.multiply_by_inputs else 1)

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> PairScores:
        """Scores ``{(n, m): [units_n, units_m]}`` of all pairs of different modalities, n < m.

        Raises:
          InputError: integer data, which has no derivative.
        """
        del key
        for name in sorted(inputs):
            if not all(is_inexact(leaf) for leaf in jax.tree.leaves(inputs[name])):
                raise InputError(
                    f"inputs[{name!r}]",
                    "holds integers, which have no gradient",
                    "pass embeddings, or use SampledPairs",
                )
        units = self.intervention.units
        dtype = jnp.result_type(float)

        def output(moves: dict[str, Array]) -> Array:
            if self.multiply_by_inputs:
                gates = {n: 1 + g for n, g in moves.items()}
                return value(self.intervention, model, inputs, target, gates)
            shifted = {n: self._shift(n, inputs[n], g) for n, g in moves.items()}
            return pick(model(shifted), target)

        origin = {n: jnp.zeros((count,), dtype) for n, count in units.items()}
        gradient = jax.grad(output)
        out = {}
        names = list(units)
        for i, name in enumerate(names[:-1]):

            def row(direction: Array, name: str = name) -> dict[str, Array]:
                moved = {n: jnp.zeros_like(g) for n, g in origin.items()} | {name: direction}
                return jax.jvp(gradient, (origin,), (moved,))[1]

            rows = map_stacked(row, jnp.eye(units[name], dtype=dtype), chunk=self.chunk)
            out |= {(name, other): rows[other] for other in names[i + 1 :]}
        return {pair: out[pair] for pair in combinations(names, 2)}

    def _shift(self, name: str, data: PyTree, moves: Array) -> PyTree:
        """The data with ``moves[u]`` added to every entry of unit u."""
        modality = self.intervention.modalities[name]
        spread: Any = jax.linear_transpose(modality.reduce, data)
        (change,) = spread(moves.astype(jax.eval_shape(modality.reduce, data).dtype))
        return jax.tree.map(jnp.add, data, change)
