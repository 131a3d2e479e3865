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
from mmx_jax.certify.results import verdict
from mmx_jax.desiderata import jacobian
from mmx_jax.desiderata.effects import pair
from mmx_jax.desiderata.jacobian import Explain
from mmx_jax.desiderata.perturb import directions, moving, scaled, shifted
from mmx_jax.errors import InputError
from mmx_jax.learn.certifiable import LEAK, CertifiableNetwork
from mmx_jax.learn.unread import BesideUnread
from mmx_jax.typing import Inputs, PRNGKey, Target

__all__ = ["local_bounds"]

POINTS = 64
"""In the ball, at which Jacobians are taken for the searched bound."""

ROUNDING, JACOBIAN = 1e-6, 1e-5
"""Relative: of a few operations in float32, and of the norm of a Jacobian, a lower bound."""


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
    slopes = _slopes(lambda x: network(x, target), inputs, key, radius)
    point, searched, certified, status = {}, {}, {}, {}
    for n, m in ((n, m) for n, _ in inner.units for m in moving(inputs)):
        r, c = (found.certified[f"{kind} of {n}", m] for kind in ("evidence", "masses"))
        # the bounds of both maps are rounded up; so are the few operations on them
        local = (jnp.sqrt(r**2 + c**2) + LEAK * r) * (1 + ROUNDING)
        certified[n, m] = jnp.minimum(local, everywhere[pair(n, m)] * (1 + ROUNDING))
    for n, m in ((n, m) for n, _ in getattr(network, "unread", ()) for m in moving(inputs)):
        certified[n, m] = everywhere[pair(n, m)]
    for (n, m), bound in certified.items():
        at = slopes[pair(n, m)] * (1 - JACOBIAN)
        point[n, m], searched[n, m] = at[0], jnp.max(at)
        status[n, m] = verdict(at[0], jnp.max(at), bound)
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
    explain: Explain, inputs: Inputs, key: PRNGKey, radius: dict[str, float]
) -> dict[str, Float[Array, "points"]]:
    """The norms of the Jacobian's blocks at the example, first, and at points of the ball."""
    shares = jnp.linspace(0.0, 1.0 - ROUNDING, POINTS)

    def at(key: PRNGKey, share: Array) -> dict[str, Array]:
        moved = dict(inputs)
        for i, name in enumerate(moving(inputs)):
            drawn = directions(inputs[name], jax.random.fold_in(key, i), 1, 2)
            step = jax.tree.map(lambda x: x[0], drawn)
            far = scaled(step, share * radius.get(name, 0.0), 2)
            moved[name] = shifted(inputs[name], far)
        return jacobian.point(explain, moved, key, method="rows")

    return jax.lax.map(lambda row: at(*row), (jax.random.split(key, POINTS), shares))
