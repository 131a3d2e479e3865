"""Desideratum III as losses of one example: local, within a ball, and along paths between inputs.

A penalty on the Jacobian at the data alone makes explanations steeper between the data, so the
three are trained together (eqs. 6 and 7 of arXiv 2506.13060).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from mmx_jax.numerics import combine, partition, safe_norm
from mmx_jax.typing import Inputs, PRNGKey, Scores

__all__ = ["path_slope", "stability_losses"]

Explain = Callable[[Inputs], Scores]


def _normal(key: PRNGKey, like: PyTree) -> PyTree:
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(key, max(len(leaves), 1))
    drawn = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=False)]
    return jax.tree.unflatten(tree, drawn)


def _steep(gradient: PyTree, noise: PyTree) -> PyTree:
    """A direction of norm about 1: the gradient's, and the noise's alone where there is none."""
    scale, other = safe_norm(gradient), safe_norm(noise)
    share = jnp.where(scale > 0, 1.0, 0.0) / jnp.where(scale > 0, scale, 1.0)
    return jax.tree.map(lambda g, z: share * g + 0.1 * z / other, gradient, noise)


def path_slope(
    explain: Explain, start: Inputs, end: Inputs, at: Float[Array, ""]
) -> Float[Array, ""]:
    """``||dE/dt|| / ||dx/dt||`` on the straight path from one input to another.

    Integer leaves stay those of ``start``.

    Args:
      explain: ``inputs -> scores``.
      start: an example.
      end: another example.
      at: where on the path, 0 to 1.
    """
    first, rest = partition(start)
    last = partition(end)[0]
    toward = jax.tree.map(jnp.subtract, last, first)
    length = safe_norm(toward)
    here = jax.tree.map(lambda a, d: a + at * d, first, toward)
    _, moved = jax.jvp(lambda real: explain(combine(real, rest)), (here,), (toward,))
    return safe_norm(moved) / jnp.maximum(length, 1e-6)


def stability_losses(
    explain: Explain,
    inputs: Inputs,
    other: Inputs,
    key: PRNGKey,
    spread: Float[Array, ""],
    limit: float,
    radius: float = 0.1,
    path_limit: float | None = None,
) -> dict[str, Float[Array, ""]]:
    """Slopes of the explanation in units of R; each in expectation covers every pair (n, m).

    ``jacobian``: the mean over pairs of ``||dE_n/dx_m||_F^2``, by one random cotangent.
    ``ball``: ``sum_n relu(||E_n(x') - E_n(x)|| / ||x'_m - x_m|| - limit)^2`` for one random m and
    x'_m at ``radius`` times the norm of x_m, along the gradient of the same random cotangent (a
    step of power iteration) with some noise. ``path``: ``relu(slope - path_limit)^2`` at a
    random point of the path to another input. Modalities of integers only are not moved.

    Args:
      explain: ``inputs -> scores``.
      inputs: of one example.
      other: of another example.
      key: where directions and points are drawn.
      spread: the range R of v.
      limit: slopes up to this, of R per unit of the data, cost nothing.
      radius: of the ball, relative to the norm of each modality's data.
      path_limit: the same along paths; None for the limit of the ball.
    """
    path_limit = limit if path_limit is None else path_limit
    for_cotangent, for_ball, for_path = jax.random.split(key, 3)
    real, rest = partition(inputs)
    moving = [n for n in sorted(real) if jax.tree.leaves(real[n])]
    if not moving:
        return dict.fromkeys(("jacobian", "ball", "path"), jnp.zeros(()))

    scores, pull = jax.vjp(lambda x: explain(combine(x, rest)), real)
    (back,) = pull(_normal(for_cotangent, scores))
    jacobian = safe_norm(back) ** 2 / (len(scores) * len(moving) * spread**2)

    for_which, for_step = jax.random.split(for_ball)
    which = jax.random.randint(for_which, (), 0, len(moving))
    # J^T r leans to the steepest directions, of which a random step sees almost nothing
    noise = _normal(for_step, real)
    step = {m: _steep(jax.lax.stop_gradient(back[m]), noise[m]) for m in moving}
    size = jnp.stack([safe_norm(real[m]) for m in moving])
    # where a modality is all zero the typical size of the others stands in
    reach = radius * jnp.where(size > 0, size, jnp.mean(size))
    factor = [
        jnp.where(which == i, reach[i] / safe_norm(step[m]), 0.0) for i, m in enumerate(moving)
    ]
    moved = {
        m: jax.tree.map(lambda a, d, i=i: a + factor[i] * d, real[m], step[m])
        for i, m in enumerate(moving)
    }
    after = explain(combine(real | moved, rest))
    apart = jnp.stack([safe_norm(after[n] - scores[n]) for n in sorted(scores)])
    ball = apart / (jnp.maximum(reach[which], 1e-6) * spread)

    at = jax.random.uniform(for_path, (), jnp.float32)
    path = path_slope(explain, inputs, other, at) / spread
    return {
        "jacobian": jacobian,
        "ball": jnp.sum(jax.nn.relu(ball - limit) ** 2),
        "path": jax.nn.relu(path - path_limit) ** 2,
    }
