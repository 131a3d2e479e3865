"""A small algebra of interactions: worlds are declared as bits, terms and modes.

A *bit* is read from one channel of one modality: a unit whose row points along the channel's
marker by about +1 or -1 carries it, and everything short of the marker reads as exactly zero, so
every other unit is an exact null player and the zero reference means absence. *Terms* combine
bits; the model is ``softmax([-1.5 s, 1.5 s])`` with s the sum of all terms, so that its second
output is ``sigmoid(3 s)``. *Modes* say which units are written into an example.
"""

import functools
import operator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.rows import Rows
from mmx_jax.typing import Inputs, record, static

__all__ = ["OPERATIONS", "QUIET", "Bit", "Mode", "Place", "Term", "WorldModel", "detect"]

QUIET, LOUD = 0.4, 0.8
"""Projections up to QUIET read as zero, from LOUD on as themselves."""


class Bit(NamedTuple):
    """``weight * sum over units of detect(unit . marker)`` of one channel of a modality."""

    modality: str
    channel: int
    weight: float = 1.0


class Term(NamedTuple):
    """Bits combined by an operation.

    ``sum``; ``product`` (synergy: XOR of two, parity of more); ``either`` (the sum, saturated at
    one bit: any copy suffices); ``gate`` (the last bit, let through where all others are positive).
    """

    op: Literal["sum", "product", "either", "gate"]
    bits: tuple[Bit, ...]


class Place(NamedTuple):
    """One unit that a mode writes.

    Attributes:
      modality: where.
      channel: whose marker it carries; a channel that no term reads makes a loud null player.
      sign: a product of letters, each a fair sign of the example: ``"y"`` is the label's, others
        are free; a leading ``-`` flips it, ``"+"`` alone is always positive.
      relevant: whether the unit belongs to the truth.
    """

    modality: str
    channel: int
    sign: str = "y"
    relevant: bool = True


class Mode(NamedTuple):
    """A kind of example: name, share, what it writes, and whether only a set is the truth."""

    name: str
    weight: float
    places: tuple[Place, ...]
    set_only: bool = False


def _smoothstep(t: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """0 below 0, 1 above 1, twice continuously differentiable in between."""
    t = jnp.clip(t, 0.0, 1.0)
    return t * t * t * (t * (6.0 * t - 15.0) + 10.0)


def detect(projection: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The projection itself where it is loud, exactly zero where it is quiet.

    >>> [round(float(x), 4) for x in detect(jnp.array([0.3, -0.4, 0.6, 1.0, -1.0]))]
    [0.0, -0.0, 0.3, 1.0, -1.0]
    """
    return projection * _smoothstep((jnp.abs(projection) - QUIET) / (LOUD - QUIET))


def _saturate(x: Float[Array, ""]) -> Float[Array, ""]:
    """An odd, twice continuously differentiable step that is exactly +-1 beyond +-1."""
    c = jnp.clip(x, -1.0, 1.0)
    return c * (15.0 - 10.0 * c**2 + 3.0 * c**4) / 8.0


def _plus(bits: list[Array]) -> Array:
    return functools.reduce(operator.add, bits)


def _times(bits: list[Array]) -> Array:
    return functools.reduce(operator.mul, bits)


OPERATIONS = {
    "sum": _plus,
    "product": _times,
    "either": lambda bits: _saturate(_plus(bits)),
    "gate": lambda bits: _times([jax.nn.relu(bit) for bit in bits[:-1]] + bits[-1:]),
}
"""The value of a term from its bits (:class:`Term`)."""


@record
class WorldModel:
    """The exact model of a world: raw outputs ``[-1.5 s, 1.5 s]``, to be linked by a softmax.

    Attributes:
      markers: per modality an orthonormal basis ``[dim, dim]``; row k marks channel k.
      strengths: weight of each term in ``s``.
      terms: the interactions.
      rows: how each modality falls into units.
    """

    markers: dict[str, Float[Array, "dim dim"]]
    strengths: Float[Array, "terms"]
    terms: tuple[Term, ...] = static()
    rows: tuple[tuple[str, Rows], ...] = static()

    def unit_reads(self, inputs: Inputs) -> dict[str, Float[Array, "units channels"]]:
        """What each unit carries on the channels of the modalities that some term reads."""
        used: dict[str, int] = {}
        for bit in (bit for term in self.terms for bit in term.bits):
            used[bit.modality] = max(used.get(bit.modality, 0), bit.channel + 1)
        return {
            name: detect(rows.split(inputs[name]) @ self.markers[name][: used[name]].T)
            for name, rows in self.rows
            if name in used
        }

    def __call__(self, inputs: Inputs) -> Float[Array, "2"]:
        """Raw outputs of one example."""
        reads = {name: jnp.sum(read, 0) for name, read in self.unit_reads(inputs).items()}
        values = [
            OPERATIONS[term.op]([b.weight * reads[b.modality][b.channel] for b in term.bits])
            for term in self.terms
        ]
        s = jnp.dot(self.strengths, jnp.stack(values))
        return jnp.stack([-1.5 * s, 1.5 * s])
