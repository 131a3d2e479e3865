"""Certified Lipschitz constants of any pure function of multimodal inputs.

For ``E: inputs -> {n: scores}`` and the set ``X = prod_m ball(x_m, radius_m)`` three numbers per
pair of modalities sandwich the constant ``sup over X of ||dE_n / dx_m||``: its value at the point,
the largest found by search, and a certified upper bound that holds in real arithmetic for the
program with its weights taken as they are.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmx_jax.certify.blocks import Blocks, certified_rows, certified_spectral
from mmx_jax.certify.branch import branch
from mmx_jax.certify.evaluation import evaluate
from mmx_jax.certify.interpret import interpret
from mmx_jax.certify.lift import lift
from mmx_jax.certify.program import Plan, Program, program_sizes
from mmx_jax.certify.region import Region, check_settings
from mmx_jax.certify.results import BROKEN, LipschitzBounds, verdict
from mmx_jax.certify.rounding import round_down, round_up
from mmx_jax.certify.search import climb, norm_below
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.model import check_target
from mmx_jax.numerics import derive_key, is_traced
from mmx_jax.typing import Inputs

__all__ = [
    "explanation_bounds",
    "lipschitz_bounds",
    "search_starts",
]

PER = ("pair", "row", "joint")


def lipschitz_bounds(
    fn: Callable[[Inputs], dict[str, Any]],
    inputs: Inputs,
    radius: Any,
    norm: float = 2,
    method: str = "auto",
    *,
    per: str = "pair",
    restarts: int = 16,
    steps: int = 40,
    splits: int = 0,
    memory: float = 64e6,
) -> LipschitzBounds:
    """The sandwich ``point <= searched <= certified`` for every pair of modalities.

    Interval bounds can stand in a loss; take its gradient within ``jax.enable_x64(True)``.

    Args:
      fn: a pure function from the inputs of one example to a dict of real arrays. Close it over a
        model lifted with :func:`lift` before it is differentiated.
      inputs: of one example.
      radius: of the ball of each modality, a number for all or ``{modality: number}``; 0 (also for
        those not named) freezes a modality, whose derivative is bounded all the same.
      norm: 2 (l2 balls, 2 to 2 norms) or ``numpy.inf`` (boxes, inf to inf).
      method: ``"interval"``, ``"affine"`` (remainders in a box), ``"full"`` (every remainder a
        symbol), ``"quadratic"`` (full, and products of inputs kept), ``"shaped"`` (quadratic, and
        remainders that know where they are small; twice the time to compile), or ``"auto"``, which
        takes quadratic or full by size.
      per: ``"pair"`` bounds every block ``(n, m)``; ``"row"`` what all inputs together do to n, as
        ``(n, "*")``; ``"joint"`` the whole Jacobian, as ``("*", "*")``.
      restarts: of the search; 0 searches the center only.
      steps: of each ascent.
      splits: how many cells :mod:`~mmx_jax.certify.branch` may halve; pays up to about ten moving
        coordinates.
      memory: bytes that the largest value may take; steers ``"auto"`` and chunking.

    Raises:
      InputError: inputs, radius or function that can't be analysed.
      CertificateError: outside ``jit``, a sandwich that does not hold.
    """
    region = Region(inputs, radius, norm)  # raises on bad input before anything is traced
    if per not in PER:
        raise UnknownNameError("per", per, PER)
    check_settings(memory, restarts=restarts, steps=steps, splits=splits)
    sizes = (restarts, steps, splits, memory)
    call = partial(_sandwich, fn, norm=norm, method=method, per=per, sizes=sizes)
    if any(is_traced(leaf) for leaf in jax.tree.leaves((region.inputs, region.radius))):
        return call(inputs, region.radius)
    # eagerly, thousands of small operations would be compiled one by one; the radius is a constant
    # of the program, because an argument would be rounded to the caller's precision
    result = jax.jit(lambda x: call(x, region.radius))(region.inputs)
    if any(int(code) >= BROKEN for code in result.status.values()):
        result.check()
    return result


def _sandwich(
    fn: Any,
    inputs: Inputs,
    radius: Any,
    *,
    norm: float,
    method: str,
    per: str,
    sizes: tuple[int, int, int, float],
) -> LipschitzBounds:
    region = Region(inputs, radius, norm)
    program = Program(fn, region)
    starts = search_starts(region, sizes[0])
    outer = jnp.result_type(region.vector())
    dtype = np.dtype(outer) if outer in (jnp.float32, jnp.float64) else np.dtype("float32")
    with jax.enable_x64(True):
        bounds = _bounds(program, region, starts, method, per, *sizes)
        cast = {"point": round_down, "searched": round_down, "certified": round_up}
        final = {
            name: {pair: fit(value, dtype) for pair, value in bounds[name].items()}
            for name, fit in cast.items()
        }
    return LipschitzBounds(
        **final,
        status=bounds["status"],
        method=bounds["method"],
        norm=float(norm),
        lifted=program.lifted,
    )


def search_starts(region: Region, restarts: int) -> Array:
    """Directions in which the ascents start, the same for every call."""
    key = derive_key(0, "certify search")
    return jax.random.normal(key, (max(restarts, 1), region.dim), jnp.float32)


def _bounds(
    program: Program,
    region: Region,
    starts: Array,
    method: str,
    per: str,
    restarts: int,
    steps: int,
    splits: int,
    memory: float,
) -> dict[str, Any]:
    norm = region.ball.norm
    outs = {"*": slice(0, program.outputs)} if per == "joint" else program.spans
    ins = {"*": slice(0, region.dim)} if per != "pair" else region.spans
    blocks = Blocks(outs, ins, program.outputs, region.dim)

    def push(x: Array, t: Array) -> Array:
        return evaluate(program.push, [x, t])[0]

    def jacobian(x: Array) -> Array:
        return jax.vmap(lambda t: push(x, t), out_axes=1)(jnp.eye(region.dim))

    center = region.vector().astype(jnp.float64)
    at_center = jacobian(center)
    point = jnp.stack([norm_below(b, norm) for b in blocks.cut(at_center)])
    searched = point
    if restarts and region.moving:
        wide = starts.astype(jnp.float64)
        found = jax.vmap(lambda o, i: climb(push, region, wide, o, i, steps))(*blocks.masks())
        tops = jax.lax.map(jacobian, found)
        others = [norm_below(blocks.cut(j)[k], norm) for k, j in enumerate(tops)]
        searched = jnp.maximum(point, jnp.stack(others))

    plan = Plan.choose(method, region.ball.dim, *program_sizes(program.sweep), memory)
    certify = certified_spectral if norm == 2 else certified_rows
    certified = certify(program, region, plan, blocks, at_center)
    if splits and region.moving:

        def of_cell(cell: Any) -> Array:
            return certify(program, cell, plan, blocks, jacobian(cell.center))

        certified = branch(region, certified, searched, of_cell, splits)
    if program.chooses:  # derivatives don't show jumps
        scope = plan.scope(region.ball)
        interpret(scope, program.primal, [region.form(plan.degree)])
        certified = jnp.where(scope.decided(), certified, jnp.inf)
    certified = jnp.where(jnp.isnan(certified), jnp.inf, certified)
    status = verdict(point, searched, certified)
    return {
        "point": dict(zip(blocks.pairs, point, strict=True)),
        "searched": dict(zip(blocks.pairs, searched, strict=True)),
        "certified": dict(zip(blocks.pairs, certified, strict=True)),
        "status": dict(zip(blocks.pairs, status, strict=True)),
        "method": plan.method,
    }


def explanation_bounds(
    model: Callable[[Inputs], Any],
    explainer: Any,
    inputs: Inputs,
    target: Any,
    key: Any,
    radius: Any,
    norm: float = 2,
    method: str = "auto",
    **settings: Any,
) -> LipschitzBounds:
    """:func:`lipschitz_bounds` of ``explainer(model, x, target, key)``, the model lifted first.

    Args:
      model: a callable pytree or a function of one example's inputs.
      explainer: ``explainer(model, inputs, target, key) -> scores``.
      inputs: of one example.
      target: the output that is explained.
      key: of the explainer; its draws are held fixed over the set.
      radius: as for :func:`lipschitz_bounds`, as are the rest.
      norm: 2 or inf.
      method: the domain.
      **settings: ``per``, ``restarts``, ``steps``, ``splits``, ``memory``.

    Raises:
      InputError: a target that the model doesn't have; see also :func:`lipschitz_bounds`.
    """
    given: Any = explainer
    if not callable(given):
        raise InputError("explainer", f"is {type(explainer).__name__}", "pass a callable")
    lifted = lift(model, inputs)
    outputs = jax.eval_shape(lifted, inputs).shape
    if outputs:
        check_target(target, outputs[-1])
    bounds = lipschitz_bounds(
        lambda x: explainer(lifted, x, target, key), inputs, radius, norm, method, **settings
    )
    # what the explainer adds to the model is not differentiated before it is lifted
    return dataclasses.replace(bounds, lifted=True)
