"""Scans: the body is analysed once, however often it runs.

Remainders made in the body are symbols of their own in every round. A value that goes on to the
next round, or leaves the loop, carries a row for each of them: in round r the body's newest rows
are moved to the r-th of as many places as there are rounds. Bounds are then as tight as those of
the unrolled program, which would take as many rows. Where the budget of symbols does not allow it,
they go into the box at the end of every round.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mmx_jax.certify.affine import Form, Scope, constant, layout
from mmx_jax.certify.graph import flatten, run, scan_counts
from mmx_jax.certify.rounding import up

__all__ = ["scan_rule"]

Shapes = tuple[Array, Array]


def _fold(form: Form, degree: int, dim: int, noise: int) -> Form:
    """A form in a fixed layout; symbols made within the body go into the box."""
    extra = max(form.noise - noise, 0)
    rows, err = form.rows, form.err
    if extra:
        lost = up(jnp.sum(jnp.abs(rows[rows.shape[0] - extra :]), 0), extra)
        rows = rows[: rows.shape[0] - extra]
        err = err.at[0].set(up(err[0] + lost))
    return layout(Form(rows, err, form.degree, form.dim, form.noise - extra), degree, dim, noise)


class Places:
    """Where symbols stand: ``[outer, those of this round, those of every round]``.

    Attributes:
      outer: how many are known outside.
      fresh: how many a round makes.
      rounds: of the loop.
      kept: whether there is room for them.
      front: where those of the first round stand.
    """

    def __init__(self, scope: Scope, outer: int, fresh: int, rounds: int):
        self.outer, self.fresh, self.rounds = outer, fresh, rounds
        self.kept = fresh > 0 and outer + fresh * (rounds + 1) <= scope.symbols
        self.front = outer + fresh
        self.degree, self.dim = min(scope.degree, 2), scope.ball.dim if scope.degree else 0

    def start(self, form: Form) -> Form:
        """A value before the first round."""
        noise = self.front + self.fresh * self.rounds if self.kept else self.outer
        return layout(form, self.degree, self.dim, noise)

    def file(self, form: Form, index: Int[Array, ""]) -> Form:
        """A value at the end of a round."""
        if not self.kept:
            return _fold(form, self.degree, self.dim, self.outer)
        form = self.start(form)
        first = form.rows.shape[0] - self.fresh * (self.rounds + 1)
        newest = form.rows[first : first + self.fresh]
        rows = form.rows.at[first : first + self.fresh].set(0.0)
        place = first + self.fresh * (index + 1)
        rows = jax.lax.dynamic_update_slice_in_dim(rows, newest, place, 0)
        return Form(rows, form.err, form.degree, form.dim, form.noise)

    def leave(self, form: Form) -> Form:
        """A value after the last round."""
        if not self.kept:
            return form
        first = form.rows.shape[0] - self.fresh * (self.rounds + 1)
        rows = jnp.concatenate([form.rows[:first], form.rows[first + self.fresh :]])
        return Form(rows, form.err, form.degree, form.dim, form.noise - self.fresh)

    def no_shapes(self) -> Shapes:
        """Shapes of the symbols of all rounds before the first."""
        count = self.fresh * self.rounds
        return jnp.zeros((count, self.dim, self.dim)), jnp.ones(count)

    def file_shapes(self, shapes: Shapes, made: Shapes, index: Int[Array, ""]) -> Shapes:
        """With those of one round, of which there may be fewer than places."""
        start, put = index * self.fresh, jax.lax.dynamic_update_slice_in_dim
        return put(shapes[0], made[0], start, 0), put(shapes[1], made[1], start, 0)


def scan_rule(scope: Scope, params: Any, step: Any, operands: list[Any]) -> list[Any]:
    """The results of a scan on forms.

    Args:
      scope: of the analysis.
      params: of the scan.
      step: how one equation is interpreted, ``(scope, eqn, operands) -> results``.
      operands: constants of the body, carry, and the arrays scanned over.
    """
    body = flatten(params["jaxpr"])
    nc, ni = scan_counts(params)
    consts, carry, xs = operands[:nc], operands[nc : nc + ni], operands[nc + ni :]
    # inside of another loop, whose symbols of other rounds stand behind those in use
    outer = max([scope.used, *(o.noise for o in operands if isinstance(o, Form))])
    places = Places(scope, outer, 0, params["length"])

    def begin(x: Any, formed: bool) -> Any:
        if not formed:
            return x
        return places.start(x if isinstance(x, Form) else constant(jnp.asarray(x)))

    def end(x: Any, formed: bool, index: Any) -> Any:
        if not formed:
            return x
        return places.file(x if isinstance(x, Form) else constant(jnp.asarray(x)), index)

    scanned = [
        jax.tree.map(lambda v: jnp.moveaxis(v, 1, 0), x) if isinstance(x, Form) else x for x in xs
    ]

    def once(state: Any, x: Any, shapes: Any = None) -> tuple[Any, Any, Scope]:
        inner = scope.inner(outer == scope.used)
        if shapes is not None:
            inner.behind(places.front, *shapes)
        outs = run(body.jaxpr, body.consts, [*consts, *state, *x], lambda e, o: step(inner, e, o))
        return outs[:ni], [*outs[ni:], ~inner.decided()], inner

    flags = [isinstance(c, Form) for c in carry]
    while True:
        # a carry that meets a form in the body is one from the start
        found: list[Any] = []

        def probe(state: Any, x: Any, found: list[Any] = found) -> int:
            new, ys, inner = once(state, x)
            kinds = [isinstance(v, Form) for v in new], [isinstance(v, Form) for v in ys]
            found.append((*kinds, inner.used - scope.used))
            return 0

        first = [jax.tree.map(lambda v: v[0], x) for x in scanned]
        jax.eval_shape(probe, [begin(c, f) for c, f in zip(carry, flags, strict=True)], first)
        new, formed, fresh = found[0]
        if all(f or not n for f, n in zip(flags, new, strict=True)):
            break
        flags = [f or n for f, n in zip(flags, new, strict=True)]
    places = Places(scope, outer, fresh, params["length"])
    shaped = places.kept and scope.shaped

    def body_step(carried: Any, x: Any) -> tuple[Any, Any]:
        (state, shapes), (index, rows) = carried, x
        new, ys, inner = once(state, rows, shapes)
        if shaped:
            made = inner.shapes_of(inner.used)
            shapes = places.file_shapes(shapes, jax.tree.map(lambda v: v[outer:], made), index)
        state = [end(v, f, index) for v, f in zip(new, flags, strict=True)]
        return (state, shapes), [end(v, f, index) for v, f in zip(ys, formed, strict=True)]

    start = [begin(c, f) for c, f in zip(carry, flags, strict=True)]
    rounds = jnp.arange(params["length"], dtype=jnp.int32)
    (last, shapes), ys = jax.lax.scan(
        body_step,
        (start, places.no_shapes() if shaped else None),
        (rounds, scanned),
        reverse=params["reverse"],
    )
    if places.kept:
        scope.take(places.fresh * places.rounds, shapes)
    stacked: list[Any] = [
        Form(jnp.moveaxis(y.rows, 0, 1), jnp.moveaxis(y.err, 0, 1), y.degree, y.dim, y.noise)
        if isinstance(y, Form)
        else y
        for y in ys
    ]
    scope.undecided.append(stacked.pop())
    return [places.leave(v) if isinstance(v, Form) else v for v in (*last, *stacked)]
