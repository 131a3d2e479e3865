"""Norms of the blocks of a Jacobian whose rows or columns are known as forms.

*2 to 2.* With U, S, V the singular value decomposition of the block at the center, the rotated
block ``B = U^T J V`` is nearly diagonal, and ``||J|| <= || sup |B_pq| ||`` (the 2-norm of a
non-negative matrix, bounded by Perron's theorem) is exact to first order in the radius when the
top singular value is simple: the directions V enter the sweep itself, so only the entries that
matter are bounded. Beside it ``||C|| + ||L|| + ||Q|| + ||R||`` by unfoldings, whichever is
smaller. Where the top singular value stands out :mod:`~mmx_jax.certify.leading` is exact to one
order more. U and V need not be orthogonal to rounding: their defect enters as a factor.

*inf to inf.* ``sum_j |J_ij| <= sup sum_j (s_ij J_ij + o_ij)``, each line the chord of the absolute
value on the entry's range (its sign, where it keeps it), so terms of opposite sensitivity cancel
before they are bounded.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.certify.affine import constant, linear_map
from mmx_jax.certify.interpret import interpret
from mmx_jax.certify.leading import leading
from mmx_jax.certify.norms import ball_spectral, perron, spectral
from mmx_jax.certify.quadratics import quadratic_top
from mmx_jax.certify.ranges import bent, parts, spread
from mmx_jax.certify.rounding import gamma, up

__all__ = ["Blocks", "certified_rows", "certified_spectral"]

LEADING_DIM = 64
"""Up to so many moving entries quadratic functions of them are maximised."""


class Blocks:
    """Which rows and columns of the whole Jacobian belong to which pair ``(n, m)``."""

    def __init__(self, outs: dict[str, slice], ins: dict[str, slice], outputs: int, inputs: int):
        self.pairs = [(n, m) for n in outs for m in ins]
        self.outs, self.ins, self.shape = outs, ins, (outputs, inputs)

    def cut(self, matrix: Float[Array, "outputs inputs"]) -> list[Array]:
        """The blocks of a Jacobian, in the order of the pairs."""
        return [matrix[self.outs[n], self.ins[m]] for n, m in self.pairs]

    def masks(self) -> tuple[Float[Array, "pairs outputs"], Float[Array, "pairs inputs"]]:
        """1 where a row (a column) belongs to the pair."""
        rows = np.zeros((len(self.pairs), self.shape[0]))
        columns = np.zeros((len(self.pairs), self.shape[1]))
        for k, (n, m) in enumerate(self.pairs):
            rows[k, self.outs[n]] = 1
            columns[k, self.ins[m]] = 1
        return jnp.asarray(rows), jnp.asarray(columns)


def _rotations(block: Array) -> tuple[Array, Array, Array]:
    """Orthogonal U and V of a block, and the factor that their defect costs."""
    finite = jnp.all(jnp.isfinite(block))
    u, _, vt = jnp.linalg.svd(jnp.where(finite, block, 0.0), full_matrices=True)

    def defect(q: Array) -> Array:
        n = q.shape[0]
        gram = q.T @ q - jnp.eye(n)
        loss = gamma(n + 4) * n
        return jnp.sqrt(jnp.sum(jnp.square(gram))) * (1 + gamma(n * n)) + loss

    keep = jnp.maximum(1 - defect(u), 0.0) * jnp.maximum(1 - defect(vt.T), 0.0)
    return u, vt.T, up(1 / jnp.sqrt(keep), 8)


def certified_spectral(
    program: Any, region: Any, plan: Any, blocks: Blocks, center: Array
) -> Float[Array, "pairs"]:
    """Upper bounds of the 2-norms of all blocks over the region."""
    outputs, inputs = blocks.shape
    lefts, rights, owners, factors, spans = [], [], [], [], []
    for (n, m), block in zip(blocks.pairs, blocks.cut(center), strict=True):
        u, v, factor = _rotations(block)
        left = jnp.zeros((outputs, u.shape[0])).at[blocks.outs[n]].set(u)
        right = jnp.zeros((inputs, v.shape[0])).at[blocks.ins[m]].set(v)
        lefts.append(left)
        rights.append(right)
        factors.append(factor)
    if program.backward:
        lefts, rights = rights, lefts
    # the sweep runs in the directions of every pair; its result is seen from the other side
    widest = max(v.shape[1] for v in lefts)
    lefts = jnp.stack([jnp.pad(v, ((0, 0), (0, widest - v.shape[1]))) for v in lefts])
    for k, right in enumerate(rights):
        spans.append(slice(len(owners), len(owners) + right.shape[1]))
        owners += [k] * right.shape[1]
    directions = jnp.concatenate(rights, 1).T
    start = region.form(plan.degree)
    standing = plan.degree >= 1 and 0 < region.ball.dim <= LEADING_DIM

    def sweep(direction: Array, owner: Array) -> tuple[Array, ...]:
        scope = plan.scope(region.ball)
        (out,) = interpret(scope, program.sweep, [start, constant(direction)])
        seen = lefts[owner]
        turned = linear_map(out, lambda v: v @ seen, lambda v: v @ jnp.abs(seen), seen.shape[0])
        quad, beside = bent(turned, scope) if standing else (turned.center,) * 2
        # of these the leading entry alone is used
        return *parts(turned, scope), quad[..., 0], beside[..., 0]

    results = jax.lax.map(
        lambda args: sweep(*args), (directions, jnp.asarray(owners)), batch_size=plan.chunk
    )
    # every pair gets as many directions as the largest, by zeros: one program bounds them all
    most = max(span.stop - span.start for span in spans)
    places = np.full((len(spans), most), len(owners))
    for k, span in enumerate(spans):
        places[k, : span.stop - span.start] = np.arange(span.start, span.stop)

    def bound(parts_of: list[Array], factor: Array) -> Array:
        # [q, ..., p] -> [..., p, q]
        c, lin, entry, rest, quad, beside = (jnp.moveaxis(r, 0, -1) for r in parts_of)
        whole = up(spectral(c, 6) + ball_spectral(lin, region.ball.blocks()) + perron(rest), 4)
        best = jnp.minimum(perron(entry), jnp.where(jnp.isnan(whole), jnp.inf, whole))
        if standing:
            first = quad[..., 0], beside[..., 0]
            best = leading(c, lin, entry, rest, *first, region.ball, best)
        return up(best * factor, 2)

    padded = [jnp.concatenate([r, jnp.zeros_like(r[:1])])[places] for r in results]
    return jax.vmap(bound)(padded, jnp.stack(factors))


def certified_rows(
    program: Any, region: Any, plan: Any, blocks: Blocks, center: Array
) -> Float[Array, "pairs"]:
    """Upper bounds of the inf-norms (largest absolute row sums) of all blocks over the region."""
    del center
    outputs, inputs = blocks.shape
    columns = np.zeros((inputs, len(blocks.ins)))
    for k, span in enumerate(blocks.ins.values()):
        columns[span, k] = 1
    columns = jnp.asarray(columns)
    start = region.form(plan.degree)

    def sweep(direction: Array) -> Array:
        scope = plan.scope(region.ball)
        (out,) = interpret(scope, program.sweep, [start, constant(direction)])
        _, _, low, high = spread(out, scope)
        # |x| <= slope x + offset, the chord
        known = jnp.isfinite(low) & jnp.isfinite(high)
        width = jnp.where(known & (high > low), high - low, 1.0)
        slope = jnp.clip(jnp.where(known, low + high, 0.0) / width, -1.0, 1.0)
        slope = jnp.where(low >= 0, 1.0, jnp.where(high <= 0, -1.0, slope))
        ends = jnp.maximum(jnp.abs(low) - slope * low, jnp.abs(high) - slope * high)
        loss = gamma(4) * jnp.maximum(jnp.abs(low), jnp.abs(high))
        offset = up(jnp.maximum(ends, 0.0) + loss, 4) @ columns
        sums = linear_map(out, lambda v: (v * slope) @ columns, lambda v: v @ columns, inputs + 1)
        top = spread(sums, scope)[3]
        if plan.degree == 2 and 0 < region.ball.dim <= LEADING_DIM:
            top = jnp.fmin(top, _top(sums, scope))
        apart = up(jnp.maximum(jnp.abs(low), jnp.abs(high)) @ columns, inputs)
        return jnp.fmin(up(jnp.maximum(top, 0.0) + up(offset, inputs), 4), apart)

    sums = jax.lax.map(sweep, jnp.eye(outputs), batch_size=plan.chunk)
    best = {n: jnp.max(sums[span], 0) for n, span in blocks.outs.items()}
    order = list(blocks.ins)
    return jnp.stack([best[n][order.index(m)] for n, m in blocks.pairs])


def _top(form: Any, scope: Any) -> Array:
    """The largest values of a form over a box, linear and quadratic part together."""
    quad, beside = bent(form, scope)
    center, lin, *_ = parts(form, scope)
    sizes = (1,) * scope.ball.dim
    largest = jax.vmap(lambda line, bent: quadratic_top(line, bent, sizes), (-1, -1))(lin, quad)
    return center + up(largest + beside, 4) + gamma(4) * jnp.abs(center)
