"""Modalities that the model never reads: they score zero, by construction.

A network that is merely trained to say nothing of them says a little on some inputs, and names a
unit where the others say little too.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mmx_jax.desiderata.effects import pair, pairs
from mmx_jax.learn.evidence import Evidence
from mmx_jax.typing import Inputs, Scores, Target

__all__ = ["BesideUnread", "unread_modalities"]

ROUNDING = 1e-6
"""Of the range R: what float32 makes of two equal values."""


def unread_modalities(names: list[str], spread: float, *evidence: Evidence) -> list[str]:
    """The modalities no removal of which ever moved v, of many examples.

    Neither as a whole beside any others (``|v(S) - v(S without n)|`` for every coalition S of
    modalities), nor any of the sets of their units that were tried, beside all others and without
    each. Empty where all of them are such: a constant has no explanation to learn.

    Args:
      names: of the modalities, sorted.
      spread: the range R of v.
      *evidence: of many examples each, with a leading axis.
    """
    members = np.arange(1 << len(names))

    def most(i: int, name: str, known: Evidence) -> float:
        inside, table = members[(members >> i) & 1 == 1], np.asarray(known.coalitions)
        whole = np.max(np.abs(table[:, inside] - table[:, inside - (1 << i)]))
        # the reach of a pair is what m changes of the effect of n: 0 where n has none
        labels = [name, *(pair(name, m) for m in names if m != name)]
        return max(float(whole), *(float(np.max(known.reach[n])) for n in labels))

    found = [
        n for i, n in enumerate(names) if max(most(i, n, e) for e in evidence) <= ROUNDING * spread
    ]
    return found if len(found) < len(names) else []


class BesideUnread(nnx.Module):
    """The network of the modalities that are read; the others score zero and are not looked at.

    Args:
      network: of the modalities that are read.
      units: of each that is not.
    """

    def __init__(self, network: Any, units: dict[str, int]):
        self.network = network
        self.unread = tuple(sorted(units.items()))

    def __call__(self, inputs: Inputs, target: Target) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        scores: Scores = self.network(inputs, target)
        kind = next(iter(scores.values())).dtype
        return scores | {name: jnp.zeros((count,), kind) for name, count in self.unread}

    @property
    def certificate(self) -> Callable[[], dict[str, Float[Array, ""]]]:
        """That of the network, where it has one, and zero for every pair with what is not read."""
        known = self.network.certificate
        silent = {name for name, _ in self.unread}

        def whole() -> dict[str, Float[Array, ""]]:
            bounds = known()
            read = [name for name, _ in self.network.units]
            names = sorted([*read, *silent])
            none = {pair(n, m): jnp.zeros(()) for n, m in pairs(names) if {n, m} & silent}
            return bounds | none

        return whole
