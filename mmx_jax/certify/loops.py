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

from mmx_jax.certify.affine import Form, Scope, layout
from mmx_jax.certify.composition import as_form
from mmx_jax.certify.evaluation import wide
from mmx_jax.certify.graph import flatten, run, scan_counts, settle
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
    """Where symbols stand in the body: ``[outer, those of this round, those of every round]``.

    Attributes:
      used: how many are in use outside.
      outer: how many rows operands have for them: more where the loop stands in the body of another
        one, whose symbols of other rounds come behind those in use.
      fresh: how many a round makes at most.
      rounds: of the loop.
      kept: whether there is room for them.
      front: where those of the first round stand.
    """

    def __init__(self, scope: Scope, outer: int, fresh: int, rounds: int):
        self.used, self.outer, self.fresh, self.rounds = scope.used, outer, fresh, rounds
        room = outer + fresh * (rounds + 1) <= scope.room
        self.kept = fresh > 0 and room and scope.used + fresh * rounds <= scope.symbols
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
        """A value after the last round: the symbols of all rounds follow those in use."""
        if not self.kept:
            return form
        count = self.fresh * self.rounds
        known = form.rows[: form.rows.shape[0] - self.fresh - count]
        made = form.rows[form.rows.shape[0] - count :]
        if self.outer == self.used:
            rows = jnp.concatenate([known, made])
            return Form(rows, form.err, form.degree, form.dim, form.noise - self.fresh)
        first = known.shape[0] - self.outer + self.used
        rows = known.at[first : first + count].set(made)
        return Form(rows, form.err, form.degree, form.dim, self.outer)

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
    outer = max([scope.used, *(o.noise for o in operands if isinstance(o, Form))])
    places = Places(scope, outer, 0, params["length"])

    def begin(x: Any, formed: bool) -> Any:
        if not formed:
            return wide(x)
        return places.start(as_form(x))

    def end(x: Any, formed: bool, index: Any) -> Any:
        if not formed:
            return wide(x)
        return places.file(as_form(x), index)

    scanned = [
        jax.tree.map(lambda v: jnp.moveaxis(v, 1, 0), x) if isinstance(x, Form) else x for x in xs
    ]

    def once(state: Any, x: Any, inner: Scope) -> tuple[Any, Any]:
        outs = run(body.jaxpr, body.consts, [*consts, *state, *x], lambda e, o: step(inner, e, o))
        return outs[:ni], [*outs[ni:], ~inner.decided()]

    formed: list[bool] = []
    fresh = 0

    def after(flags: list[bool]) -> list[bool]:
        """Runs one round abstractly: what are forms behind it, and how many symbols it makes."""
        kinds: list[bool] = []

        def probe(state: Any, x: Any) -> int:
            nonlocal formed, fresh
            inner = scope.inner(outer)
            new, ys = once(state, x, inner)
            kinds.extend(isinstance(v, Form) for v in new)
            formed, fresh = [isinstance(v, Form) for v in ys], inner.used - outer
            return 0

        first = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape[1:], v.dtype), scanned)
        jax.eval_shape(probe, [begin(c, f) for c, f in zip(carry, flags, strict=True)], first)
        return kinds

    flags = settle([isinstance(c, Form) for c in carry], after)
    places = Places(scope, outer, fresh, params["length"])
    shaped = places.kept and scope.shaped

    def body_step(carried: Any, x: Any) -> tuple[Any, Any]:
        (state, shapes), (index, rows) = carried, x
        # forms know more symbols here than in the probe, and must not make more
        inner = scope.inner(outer, fresh if places.kept else None)
        if shaped:
            inner.behind(places.front, *shapes)
        new, ys = once(state, rows, inner)
        if shaped:
            made = jax.tree.map(lambda v: v[outer:], inner.shapes_of(inner.used))
            shapes = places.file_shapes(shapes, made, index)
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
        scope.take(fresh * places.rounds, shapes)
    stacked: list[Any] = [
        Form(jnp.moveaxis(y.rows, 0, 1), jnp.moveaxis(y.err, 0, 1), y.degree, y.dim, y.noise)
        if isinstance(y, Form)
        else y
        for y in ys
    ]
    scope.undecided.append(stacked.pop())
    return [places.leave(v) if isinstance(v, Form) else v for v in (*last, *stacked)]
