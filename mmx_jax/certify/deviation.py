"""How far an explanation can move: ``sup ||E_n(x') - E_n(x)||``, finite where it jumps too."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.certify.affine import Scope
from mmx_jax.certify.composition import add
from mmx_jax.certify.evaluation import evaluate
from mmx_jax.certify.interpret import interpret
from mmx_jax.certify.lipschitz import search_starts
from mmx_jax.certify.norms import ball_spectral
from mmx_jax.certify.program import Plan, Program, program_sizes
from mmx_jax.certify.ranges import parts
from mmx_jax.certify.region import Region, check_settings
from mmx_jax.certify.rounding import round_down, round_up, up
from mmx_jax.certify.search import into_ball
from mmx_jax.numerics import is_traced
from mmx_jax.typing import Inputs, record, static

__all__ = ["DeviationBounds", "deviation_bounds"]


@record
class DeviationBounds:
    """Bounds of ``sup ||E_n(x') - E_n(x)||`` over a product of balls, per output n.

    Attributes:
      searched: the largest found, a lower bound.
      certified: a proven upper bound.
      method: the domain used.
    """

    searched: dict[str, Float[Array, ""]]
    certified: dict[str, Float[Array, ""]]
    method: str = static(default="auto")


def deviation_bounds(
    fn: Callable[[Inputs], dict[str, Any]],
    inputs: Inputs,
    radius: Any,
    norm: float = 2,
    method: str = "auto",
    *,
    samples: int = 256,
    memory: float = 64e6,
) -> DeviationBounds:
    """The largest change of an explanation within the set, searched and certified.

    For explanations that jump (saliency of relu networks) no Lipschitz constant exists, but their
    values stay bounded: where a unit's sign is open both one-sided values are taken in.

    Args:
      fn: a pure function to a dict of real arrays, closed over a lifted model.
      inputs: of one example.
      radius: per modality, as for :func:`lipschitz_bounds`.
      norm: 2 (l2 balls and l2 distance) or ``numpy.inf``.
      method: the domain.
      samples: points of the set tried by the search.
      memory: bytes that the largest value may take.
    """
    region = Region(inputs, radius, norm)
    check_settings(memory, 1, samples=samples)
    call = partial(_deviations, fn, norm=norm, method=method, samples=samples, memory=memory)
    if any(is_traced(leaf) for leaf in jax.tree.leaves((region.inputs, region.radius))):
        return call(inputs, region.radius)
    return jax.jit(lambda x: call(x, region.radius))(region.inputs)


def _deviations(
    fn: Any, inputs: Inputs, radius: Any, *, norm: float, method: str, samples: int, memory: float
) -> DeviationBounds:
    region = Region(inputs, radius, norm)
    program = Program(fn, region, differentiated=False)
    starts = search_starts(region, samples)
    dtype = np.dtype(jnp.result_type(region.vector()))
    searched, certified = {}, {}
    with jax.enable_x64(True):
        plan = Plan.choose(method, region.ball.dim, *program_sizes(program.primal), memory)
        scope = plan.scope(region.ball)
        (moved,) = interpret(scope, program.primal, [region.form(plan.degree)])
        still = Region(inputs, 0.0, norm)
        (fixed,) = interpret(Scope(still.ball, 0, 0), program.primal, [still.form(0)])
        center, lin, entry, loose = parts(add(moved, fixed, -1.0), scope)

        x0, scales = region.vector().astype(jnp.float64), region.scales()
        base = evaluate(program.primal, [x0])[0]

        def change(u: Array) -> Array:
            point = x0 + scales * into_ball(u, region, True)
            return evaluate(program.primal, [point])[0] - base

        found = jax.lax.map(change, starts.astype(jnp.float64), batch_size=64)
        for name, span in program.spans.items():
            apart = entry[span]
            if norm == 2:
                best = jnp.sqrt(jnp.sum(jnp.square(found[:, span]), 1))
                whole = (
                    jnp.sqrt(up(jnp.sum(jnp.square(center[span])), 99))
                    + ball_spectral(lin[:, span, None], region.ball.blocks())
                    + jnp.sqrt(up(jnp.sum(jnp.square(loose[span])), apart.size + 4))
                )
                bound = jnp.sqrt(up(jnp.sum(jnp.square(apart)), apart.size + 4))
                bound = up(jnp.minimum(bound, jnp.where(jnp.isnan(whole), jnp.inf, whole)), 8)
            else:
                best, bound = jnp.max(jnp.abs(found[:, span]), 1), jnp.max(apart)
            searched[name] = round_down(jnp.max(best) * (1 - 1e-12), dtype)
            bound = jnp.where(scope.decided() & ~jnp.isnan(bound), bound, jnp.inf)
            certified[name] = round_up(bound, dtype)
    return DeviationBounds(searched, certified, plan.method)
