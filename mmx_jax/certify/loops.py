"""Scans: the body is analysed once, however often it runs."""

from typing import Any

import jax
import jax.numpy as jnp

from mmx_jax.certify.affine import Form, Scope, constant, layout
from mmx_jax.certify.graph import flatten, run, scan_counts
from mmx_jax.certify.rounding import up

__all__ = ["scan_rule"]


def _fold(form: Form, degree: int, dim: int, noise: int) -> Form:
    """A form in a fixed layout; symbols made within the body go into the box."""
    extra = max(form.noise - noise, 0)
    rows, err = form.rows, form.err
    if extra:
        lost = up(jnp.sum(jnp.abs(rows[rows.shape[0] - extra :]), 0), extra)
        rows = rows[: rows.shape[0] - extra]
        err = err.at[0].set(up(err[0] + lost))
    return layout(Form(rows, err, form.degree, form.dim, form.noise - extra), degree, dim, noise)


def scan_rule(scope: Scope, params: Any, step: Any, operands: list[Any]) -> list[Any]:
    """The results of a scan on forms.

    Args:
      scope: of the analysis; symbols made inside the body live for one iteration only.
      params: of the scan.
      step: how one equation is interpreted, ``(scope, eqn, operands) -> results``.
      operands: constants of the body, carry, and the arrays scanned over.
    """
    body = flatten(params["jaxpr"])
    nc, ni = scan_counts(params)
    consts, carry, xs = operands[:nc], operands[nc : nc + ni], operands[nc + ni :]
    degree, dim, noise = min(scope.degree, 2), scope.ball.dim, scope.used
    if not scope.degree:
        dim = 0

    def pack(x: Any, formed: bool) -> Any:
        if not formed:
            return x
        x = x if isinstance(x, Form) else constant(jnp.asarray(x))
        return _fold(x, degree, dim, noise)

    scanned = [
        jax.tree.map(lambda v: jnp.moveaxis(v, 1, 0), x) if isinstance(x, Form) else x for x in xs
    ]

    def once(state: Any, x: Any) -> tuple[Any, Any]:
        inner = scope.inner()
        outs = run(body.jaxpr, body.consts, [*consts, *state, *x], lambda e, o: step(inner, e, o))
        return outs[:ni], [*outs[ni:], ~inner.decided()]

    flags = [isinstance(c, Form) for c in carry]
    while True:
        # a carry that meets a form in the body is one from the start
        def typed(state: Any, x: Any) -> Any:
            new, ys = once(state, x)
            return [isinstance(v, Form) for v in new], [isinstance(v, Form) for v in ys]

        found: list[Any] = []

        def probe(state: Any, x: Any, found: list[Any] = found) -> int:
            found.append(typed(state, x))
            return 0

        first = [jax.tree.map(lambda v: v[0], x) for x in scanned]
        jax.eval_shape(probe, [pack(c, f) for c, f in zip(carry, flags, strict=True)], first)
        new, formed = found[0]
        if all(f or not n for f, n in zip(flags, new, strict=True)):
            break
        flags = [f or n for f, n in zip(flags, new, strict=True)]

    def body_step(state: Any, x: Any) -> tuple[Any, Any]:
        new, ys = once(state, x)
        state = [pack(v, f) for v, f in zip(new, flags, strict=True)]
        return state, [pack(v, f) for v, f in zip(ys, formed, strict=True)]

    start = [pack(c, f) for c, f in zip(carry, flags, strict=True)]
    last, ys = jax.lax.scan(
        body_step, start, scanned, length=params["length"], reverse=params["reverse"]
    )
    stacked: list[Any] = [
        Form(jnp.moveaxis(y.rows, 0, 1), jnp.moveaxis(y.err, 0, 1), y.degree, y.dim, y.noise)
        if isinstance(y, Form)
        else y
        for y in ys
    ]
    scope.undecided.append(stacked.pop())
    return [*last, *stacked]
