"""How steep a certifiable network is around one example, proven: less than it may be anywhere.

The projection that ends the network sorts, and is left out of what is bounded: it is jointly
1-Lipschitz in evidence and masses, so the bounds of those two maps are all that is needed.
"""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.certify import LipschitzBounds, lipschitz_bounds
from mmx_jax.errors import InputError
from mmx_jax.learn.certifiable import LEAK, CertifiableNetwork
from mmx_jax.learn.unread import BesideUnread
from mmx_jax.numerics import combine, partition
from mmx_jax.typing import Inputs, PRNGKey, Target

__all__ = ["local_bounds"]

POINTS = 64
"""In the ball, at which Jacobians are taken for the searched bound."""


def local_bounds(
    network: Any,
    inputs: Inputs,
    target: Target,
    key: PRNGKey,
    radius: dict[str, float],
    norm: float = 2,
    method: str = "affine",
) -> LipschitzBounds:
    """The sandwich of a certifiable network's explanation within a ball around an example.

    ``L_nm <= sqrt(R_nm^2 + C_nm^2) + leak R_nm`` with R and C the proven slopes of the evidence and
    of the masses of n in x_m, and never more than what the network promises everywhere.

    Args:
      network: a :class:`CertifiableNetwork`, alone or beside modalities that are not read.
      inputs: of one example.
      target: the output that is explained.
      key: where the points of the searched bound are drawn.
      radius: per modality, of l2 balls.
      norm: 2; the construction says nothing of others.
      method: of :func:`mmx_jax.certify.lipschitz_bounds`.

    Raises:
      InputError: another norm or another network.
    """
    inner = network.network if isinstance(network, BesideUnread) else network
    if not isinstance(inner, CertifiableNetwork):
        raise InputError("network", f"is {type(inner).__name__}", "give a certifiable one")
    if norm != 2:
        raise InputError("norm", f"is {norm}", "use 2: a certifiable network is bounded in l2")

    def parts(x: Inputs) -> dict[str, Array]:
        kinds, masses = inner.evidence_and_masses(x, target, _two_by_maxima)
        evidence = {f"evidence of {n}": jnp.ravel(r) for n, r in kinds.items()}
        return evidence | {f"masses of {n}": c for n, c in masses.items()}

    found = lipschitz_bounds(parts, inputs, radius, 2, method, restarts=0)
    everywhere = network.certificate()
    point, searched, certified, status = {}, {}, {}, {}
    slopes = _slopes(network, inputs, target, key, radius)
    for pair, (center, most) in slopes.items():
        n, m = pair
        point[pair], searched[pair] = center, most
        r, c = (
            found.certified.get((f"{kind} of {n}", m), jnp.zeros(()))
            for kind in ("evidence", "masses")
        )
        # the bounds of both maps are rounded up; so are the few operations on them
        local = (jnp.sqrt(r**2 + c**2) + LEAK * r) * (1 + 1e-6)
        certified[pair] = jnp.minimum(local, everywhere[f"{n}<-{m}"] * (1 + 1e-6))
        broken = searched[pair] > certified[pair] * (1 + 1e-5) + 1e-9
        status[pair] = jnp.where(broken, 2, 0).astype(jnp.int32)
    return LipschitzBounds(point, searched, certified, status, found.method, 2, found.lifted)


def _two_by_maxima(x: Float[Array, "units dim"]) -> Float[Array, "2*dim"]:
    """As ``largest_two``, by maxima and minima of one unit after the other."""
    if x.shape[0] == 1:
        return jnp.concatenate([x[0], jnp.zeros_like(x[0])])

    def add(two: tuple[Array, Array], row: Array) -> tuple[Array, Array]:
        first, second = two
        return jnp.maximum(first, row), jnp.maximum(second, jnp.minimum(first, row))

    start = jnp.maximum(x[0], x[1]), jnp.minimum(x[0], x[1])
    first, second = reduce(add, [x[i] for i in range(2, x.shape[0])], start)
    return jnp.concatenate([first, second])


def _slopes(
    network: Any, inputs: Inputs, target: Target, key: PRNGKey, radius: dict[str, float]
) -> dict[tuple[str, str], tuple[Array, Array]]:
    """Per pair the norm of the Jacobian at the example, and the largest at points of the ball."""
    parts = {n: partition(x) for n, x in sorted(inputs.items())}
    moving = {n: real for n, (real, _) in parts.items() if jax.tree.leaves(real)}

    def moved(key: PRNGKey, share: Array) -> Any:
        out = {}
        for i, n in enumerate(moving):
            leaves, tree = jax.tree.flatten(moving[n])
            keys = jax.random.split(jax.random.fold_in(key, i), len(leaves))
            steps = [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
            size = jnp.sqrt(sum((jnp.sum(s**2) for s in steps), jnp.zeros(())))
            far = share * radius.get(n, 0.0) / size
            moves = zip(leaves, steps, strict=True)
            out[n] = jax.tree.unflatten(tree, [x + far * s for x, s in moves])
        return out

    def explain(x: Any) -> Any:
        return network(inputs | {n: combine(x[n], parts[n][1]) for n in x}, target)

    def norms(x: Any) -> dict[tuple[str, str], Array]:
        blocks = jax.jacrev(explain)(x)
        out = {}
        for n, row in blocks.items():
            for m in moving:
                flat = [b.reshape(b.shape[0], -1) for b in jax.tree.leaves(row[m])]
                out[n, m] = jnp.linalg.norm(jnp.concatenate(flat, 1), 2)
        return out

    shares = jnp.linspace(0.0, 1.0 - 1e-6, POINTS)
    rows = jax.vmap(moved)(jax.random.split(key, POINTS), shares)
    found = jax.lax.map(norms, rows)
    return {pair: (x[0], jnp.max(x)) for pair, x in found.items()}
