"""What is known of a constant: at the point, as searched, as proven, and whether it can be used."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmx_jax.errors import InputError, MmxError
from mmx_jax.typing import record, static

__all__ = [
    "BROKEN",
    "INFINITE",
    "PROVEN",
    "UNDEFINED",
    "CertificateError",
    "LipschitzBounds",
    "verdict",
]

PROVEN, INFINITE, BROKEN, UNDEFINED = range(4)
Pair = tuple[str, str]


class CertificateError(MmxError):
    """A bound that can't be used: it is infinite, or the sandwich is broken."""


def verdict(
    point: Float[Array, "*pairs"],
    searched: Float[Array, "*pairs"],
    certified: Float[Array, "*pairs"],
) -> Int[Array, "*pairs"]:
    """The status of a sandwich: proven, infinite, broken, or undefined at the center."""
    broken = ~((point <= searched) & (searched <= certified))
    status = jnp.where(jnp.isfinite(certified), PROVEN, INFINITE)
    status = jnp.where(broken, BROKEN, status)
    return jnp.where(jnp.isfinite(point), status, UNDEFINED).astype(jnp.int32)


@record
class LipschitzBounds:
    """Bounds of ``sup ||dE_n / dx_m||`` over a product of balls, per pair ``(n, m)``.

    Asked for per row or joint, the pairs are ``(n, "*")`` or ``("*", "*")``.

    Attributes:
      point: the constant at the center.
      searched: the largest found in the set, a lower bound.
      certified: a proven upper bound; infinite where nothing could be proven.
      status: per pair an int32: 0 proven, 1 infinite, 2 a broken sandwich, 3 undefined at the
        center.
      method: the domain used: ``"interval"``, ``"affine"``, ``"full"``, ``"quadratic"`` or
        ``"shaped"``.
      norm: 2 or inf.
      lifted: False where the function holds nonlinearities that were not lifted before it was
        differentiated; its bounds are sound, but looser than they need be.
    """

    point: dict[Pair, Float[Array, ""]]
    searched: dict[Pair, Float[Array, ""]]
    certified: dict[Pair, Float[Array, ""]]
    status: dict[Pair, Array]
    method: str = static(default="auto")
    norm: float = static(default=2)
    lifted: bool = static(default=True)

    def check(self) -> "LipschitzBounds":
        """Raises where a bound is infinite or the sandwich is broken; returns itself otherwise."""
        for pair, code in self.status.items():
            worst = int(np.max(code))
            if worst == UNDEFINED:
                raise InputError(
                    "fn",
                    f"has a NaN or infinite derivative ({pair[0]} <- {pair[1]}) at the inputs",
                    "check its weights, and that the inputs are not at a pole",
                )
            if worst == BROKEN:
                raise CertificateError(
                    f"({pair[0]} <- {pair[1]}): point <= searched <= certified does not hold; "
                    "unless you added a rule, this is a defect of the package, please report it"
                )
            if worst == INFINITE:
                raise CertificateError(
                    f"({pair[0]} <- {pair[1]}): the bound is infinite: within the radius an "
                    "operation meets a pole (log, sqrt, division) or the explanation jumps (the "
                    "derivative of relu, a comparison); reduce the radius, smooth the model, or "
                    "use certify.deviation_bounds"
                )
        return self
