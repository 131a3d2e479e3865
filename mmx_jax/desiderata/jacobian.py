"""Norms of the Jacobian blocks of an explanation: how E_n moves with x_m, infinitesimally."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mmx_jax.desiderata.effects import pair
from mmx_jax.desiderata.perturb import moving
from mmx_jax.errors import MmxError
from mmx_jax.gates import flatten
from mmx_jax.mapping import map_stacked
from mmx_jax.numerics import combine, partition, spectral_norm
from mmx_jax.typing import Inputs, PRNGKey, Scores

__all__ = ["Explain", "not_differentiable", "point"]

Explain = Callable[[Inputs], Scores]
"""An explainer closed over its model, target and key."""


def point(
    explain: Explain,
    inputs: Inputs,
    key: PRNGKey,
    *,
    order: float = 2,
    steps: int = 20,
    method: str = "auto",
) -> dict[str, Float[Array, ""]]:
    """``||dE_n/dx_m||`` at x for every pair "n<-m" with real x_m.

    Args:
      explain: inputs to scores, differentiable.
      inputs: the point.
      key: of the first direction of the power iteration.
      order: 2 (largest singular value) or inf (largest absolute row sum).
      steps: of the power iteration, each a jvp and a vjp per pair.
      method: ``"power"`` iterates; ``"rows"`` takes one vjp per unit and is exact; ``"auto"``
        takes whichever passes fewer times through the explainer (always rows for inf).
    """
    real, rest = partition(inputs)
    names = moving(inputs)
    shapes = jax.eval_shape(explain, inputs)
    units = {n: shapes[n].shape[0] for n in sorted(shapes)}
    count = sum(units.values())

    def fn(moved: PyTree) -> Array:
        return flatten(explain(combine(moved, rest)))

    if order != 2 or method == "rows" or (method == "auto" and count <= 2 * steps * len(names)):
        return _by_rows(fn, real, names, units, order)

    ids = jnp.asarray(np.repeat(np.arange(len(units)), list(units.values())))
    grid = [(n, m) for n in range(len(units)) for m in range(len(names))]

    def block(n: Array, m: Array) -> Array:
        def masked(change: PyTree) -> Array:
            moved = {
                name: jax.tree.map(
                    lambda x, d, i=i: x + jnp.where(m == i, d, 0), real[name], change[name]
                )
                for i, name in enumerate(names)
            }
            return jnp.where(ids == n, fn(real | moved), 0)

        still = {name: jax.tree.map(jnp.zeros_like, real[name]) for name in names}
        return spectral_norm(masked, still, key, steps)[0]

    index = jnp.array(grid)
    norms = map_stacked(block, index[:, 0], index[:, 1], chunk=1)
    return {pair(list(units)[n], names[m]): norms[i] for i, (n, m) in enumerate(grid)}


def _by_rows(
    fn: Callable[[PyTree], Array],
    real: PyTree,
    names: list[str],
    units: dict[str, int],
    order: float,
) -> dict[str, Array]:
    out, pull = jax.vjp(fn, real)

    def row(unit: Array) -> dict[str, Array]:
        (back,) = pull(unit)
        leaves = {m: jnp.concatenate([x.ravel() for x in jax.tree.leaves(back[m])]) for m in names}
        return leaves if order == 2 else {m: jnp.sum(jnp.abs(x)) for m, x in leaves.items()}

    rows = map_stacked(row, jnp.eye(out.shape[0], dtype=out.dtype))
    norms, start = {}, 0
    for n, size in units.items():
        for m in names:
            block = rows[m][start : start + size]
            norms[pair(n, m)] = _largest_singular(block) if order == 2 else jnp.max(block)
        start += size
    return norms


def _largest_singular(block: Float[Array, "rows columns"]) -> Float[Array, ""]:
    """From the Gram matrix of the rows, which are few; scaled so that squares don't vanish."""
    block = block.astype(jnp.promote_types(block.dtype, jnp.float32))
    size = jnp.max(jnp.abs(block))
    unit = block / jnp.where(size > 0, size, 1)
    return size * jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(unit @ unit.T)[-1], 0))


def not_differentiable(explain: Explain, inputs: Inputs, what: str = "the explainer") -> str | None:
    """Why a function has no Jacobian, by tracing it (nothing is computed), or None if it has.

    Args:
      explain: of inputs, with a dict of arrays as result.
      inputs: of one example.
      what: it is called so in the reason.
    """
    real, rest = partition(inputs)

    def back(moved: PyTree) -> PyTree:
        out, pull = jax.vjp(lambda x: flatten(explain(combine(x, rest))), moved)
        return pull(out)

    try:
        jax.eval_shape(back, real)
    except (TypeError, ValueError, NotImplementedError, MmxError) as error:
        return f"{what} can't be differentiated ({str(error).splitlines()[0][:120]})"
    return None
