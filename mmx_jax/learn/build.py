"""Which network explains, and a fresh one."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from flax import nnx

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.learn.certifiable import CertifiableNetwork
from mmx_jax.learn.network import ExplainerNetwork
from mmx_jax.learn.unread import BesideUnread
from mmx_jax.modality import Modality

__all__ = ["NetworkSettings", "build_network"]


@dataclasses.dataclass(frozen=True)
class NetworkSettings:
    """Which network explains.

    Attributes:
      kind: ``"free"`` (:class:`ExplainerNetwork`) or ``"certifiable"``.
      dim: width of the unit vectors.
      rounds: of mixing, or layers of a certifiable network.
      lipschitz: the certificate of a certifiable network, of R per unit of the data.
      kinds: of contributions that a certifiable network tells apart.
    """

    kind: Literal["free", "certifiable"] = "free"
    dim: int = 48
    rounds: int = 2
    lipschitz: float = 3.0
    kinds: int = 4

    def __post_init__(self) -> None:
        """Raises where a certificate can't be had; the networks check their widths."""
        if not 0 < self.lipschitz < float("inf"):
            raise InputError("lipschitz", f"is {self.lipschitz}", "use a finite slope above 0")


def build_network(
    settings: NetworkSettings,
    modalities: dict[str, Modality],
    outputs: int,
    spread: float,
    seed: int = 0,
    unread: Sequence[str] = (),
) -> nnx.Module:
    """A fresh network.

    Args:
      settings: which.
      modalities: by name.
      outputs: of the model.
      spread: the range R of v, in which its scores and certificate are counted.
      seed: of the weights.
      unread: modalities that the model never reads; they score zero.
    """
    if unread:
        read = {n: m for n, m in modalities.items() if n not in unread}
        units = {n: modalities[n].units for n in unread}
        return BesideUnread(build_network(settings, read, outputs, spread, seed), units)
    rngs = nnx.Rngs(seed)
    if settings.kind == "free":
        # a power of 2, so that models of about the same range share a compiled program
        scale = 2.0 ** round(math.log2(spread))
        return ExplainerNetwork(
            modalities, outputs, dim=settings.dim, rounds=settings.rounds, scale=scale, rngs=rngs
        )
    if settings.kind == "certifiable":
        return CertifiableNetwork(
            modalities,
            outputs,
            lipschitz=settings.lipschitz * spread,
            dim=settings.dim,
            depth=settings.rounds,
            kinds=settings.kinds,
            rngs=rngs,
        )
    raise UnknownNameError("network", settings.kind, ["free", "certifiable"])
