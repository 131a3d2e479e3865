"""Modalities that never move the model, on all examples tried: they score zero, by construction.

A network that is merely trained to say nothing of them says a little on some inputs, and names a
unit where the others say little too.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mmx_jax.desiderata.effects import pair, pairs
from mmx_jax.learn.evidence import Evidence, gather_all
from mmx_jax.numerics import derive_keys
from mmx_jax.typing import Inputs, Intervention, Model, Scores, Target

__all__ = ["BesideUnread", "evidence_of_outputs", "unread_modalities"]

ROUNDING = 1e-6
"""Of the range R: what float32 makes of two equal values."""

MOST = 4096
"""Pairs of an example and an output that are looked at."""


def unread_modalities(names: list[str], spread: float, *evidence: Evidence) -> list[str]:
    """The modalities no removal of which ever moved v, on many examples.

    Neither as a whole beside any others (``|v(S) - v(S without n)|`` for every coalition S of
    modalities), nor any of the sets of their units that were tried, beside all others and without
    each, nor as a whole beside the sets of others that were tried. Empty where all of them are
    such: a constant has no explanation to learn. One rare example that was not tried is enough to
    be wrong: what is found is said, and can be checked on more.

    Args:
      names: of the modalities, sorted.
      spread: the range R of v.
      *evidence: of many examples each, with a leading axis.
    """
    members = np.arange(1 << len(names))

    def most(i: int, name: str, known: Evidence) -> float:
        inside, table = members[(members >> i) & 1 == 1], np.asarray(known.coalitions)
        whole = np.max(np.abs(table[:, inside] - table[:, inside - (1 << i)]))
        # the reach of a pair is what one changes of the effects of the other: 0 where it has none
        labels = [name]
        labels += [pair(*two) for m in names if m != name for two in ((name, m), (m, name))]
        return max(float(whole), *(float(np.max(known.reach[n])) for n in labels))

    found = [
        n for i, n in enumerate(names) if max(most(i, n, e) for e in evidence) <= ROUNDING * spread
    ]
    return found if len(found) < len(names) else []


def evidence_of_outputs(
    intervention: Intervention, model: Model, inputs: Inputs, outputs: int
) -> Evidence:
    """What the model says of examples for every output, not their own targets alone.

    Args:
      intervention: what removing a unit means.
      model: the model.
      inputs: ``[examples, ...]``; with many outputs fewer of them are looked at.
      outputs: how many there are.
    """
    count = min(len(jax.tree.leaves(inputs)[0]), max(16, MOST // outputs))
    rows = jax.tree.map(lambda x: np.repeat(np.asarray(x)[:count], outputs, 0), inputs)
    targets = np.tile(np.arange(outputs, dtype=np.int32), count)
    keys = derive_keys(0, "held-out sets", len(targets))
    return gather_all(intervention, model, rows, targets, keys, 2)


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
