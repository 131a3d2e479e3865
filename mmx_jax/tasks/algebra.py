"""A small algebra of interactions: worlds are declared as bits, terms and modes.

A *bit* is read from one channel of one modality: a unit whose row points along the channel's
marker by about +1 or -1 carries it, and everything short of the marker reads as exactly zero, so
every other unit is an exact null player and the zero reference means absence. Units of a single
entry (a table's columns) have no direction: there a channel is a set of columns. *Terms* combine
bits; the model is ``softmax([-1.5 s, 1.5 s])`` with s the sum of all terms, so that its second
output is ``sigmoid(3 s)``. *Modes* say which units are written into an example.
"""

import functools
import operator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mmx_jax.rows import Rows
from mmx_jax.typing import Inputs, record, static

__all__ = ["OPERATIONS", "QUIET", "Bit", "Mode", "Place", "Term", "WorldModel", "carried", "detect"]

QUIET, LOUD = 0.4, 0.8
"""Projections up to QUIET read as zero, from LOUD on as themselves."""


class Bit(NamedTuple):
    """``weight * sum over units of detect(unit . marker)`` of one channel of a modality."""

    modality: str
    channel: int
    weight: float = 1.0


class Term(NamedTuple):
    """Bits combined by an operation.

    ``sum``; ``product`` (synergy: XOR of two, parity of more); ``either`` (``tanh(3 sum)``: any
    copy suffices); ``gate`` (the last bit, let through where all others are positive); ``flip``
    (the last bit, its sign turned by every positive other one: times ``1 - 2 relu(bit)``).
    """

    op: Literal["sum", "product", "either", "gate", "flip"]
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


def carried(
    rows: Rows, data: PyTree, markers: Float[Array, "channels dim"]
) -> Float[Array, "units channels"]:
    """How much of each channel every unit carries, before :func:`detect`."""
    table = rows.split(data)
    return table * markers.T if rows.size == 1 else table @ markers.T


def _plus(bits: list[Array]) -> Array:
    return functools.reduce(operator.add, bits)


def _times(bits: list[Array]) -> Array:
    return functools.reduce(operator.mul, bits)


OPERATIONS = {
    "sum": _plus,
    "product": _times,
    # not flat beyond one bit: a copy that goes moves the output by about .0007, so that the
    # calibration of an explanation by its effects is not 0/0 where all is redundant
    "either": lambda bits: jnp.tanh(3.0 * _plus(bits)),
    "gate": lambda bits: _times([jax.nn.relu(bit) for bit in bits[:-1]] + bits[-1:]),
    "flip": lambda bits: _times([1.0 - 2.0 * jax.nn.relu(bit) for bit in bits[:-1]] + bits[-1:]),
}
"""The value of a term from its bits (:class:`Term`)."""


@record
class WorldModel:
    """The exact model of a world: raw outputs ``[-1.5 s, 1.5 s]``, to be linked by a softmax.

    Attributes:
      markers: per modality an orthonormal basis ``[dim, dim]``; row k marks channel k. Where units
        have one entry, ``[channels, units]`` with a 1 where the unit belongs to the channel.
      strengths: weight of each term in ``s``.
      terms: the interactions.
      rows: how each modality falls into units.
    """

    markers: dict[str, Float[Array, "channels dim"]]
    strengths: Float[Array, "terms"]
    terms: tuple[Term, ...] = static()
    rows: tuple[tuple[str, Rows], ...] = static()

    def unit_reads(self, inputs: Inputs) -> dict[str, Float[Array, "units channels"]]:
        """What each unit carries on the channels that some term reads, 0 on those between."""
        read = {(bit.modality, bit.channel) for term in self.terms for bit in term.bits}
        used = {m: 1 + max(c for n, c in read if n == m) for m in {m for m, _ in read}}
        return {
            name: detect(carried(rows, inputs[name], self.markers[name][: used[name]]))
            * np.array([(name, k) in read for k in range(used[name])], np.float32)
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
