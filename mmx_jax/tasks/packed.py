"""The exact model of a world with its declaration as arrays: one program for many worlds.

:class:`~mmx_jax.tasks.WorldModel` has its terms in its structure, so every world compiles all
programs again. Here terms are numbers: worlds over the same modalities share every program, at the
price of computing each operation for each term.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmx_jax.errors import InputError
from mmx_jax.model import FunctionModel
from mmx_jax.rows import Rows
from mmx_jax.tasks.algebra import OPERATIONS, WorldModel, carried, detect
from mmx_jax.tasks.reference import KnownContributions
from mmx_jax.tasks.task import Task
from mmx_jax.typing import Inputs, record, static

__all__ = ["PackedWorld", "pack", "packed_task"]

TERMS, BITS = 12, 6
"""Terms of a world and bits of a term are padded to these."""


@record
class PackedWorld:
    """The same function as a :class:`~mmx_jax.tasks.WorldModel`, up to rounding.

    Attributes:
      markers: as there, padded with zeros to as many channels as a modality can carry.
      read: per modality which channels some term reads.
      channel: of each bit, among the channels of all modalities side by side.
      weight: of each bit.
      present: which bits there are; the rest is padding.
      last: whether a bit is the last of its term.
      operation: of each term, an index into the operations of the algebra.
      strengths: of each term, 0 for padding.
      rows: how each modality falls into units.
    """

    markers: dict[str, Float[Array, "channels dim"]]
    read: dict[str, Bool[np.ndarray, "channels"]]
    channel: Int[np.ndarray, "terms bits"]
    weight: Float[np.ndarray, "terms bits"]
    present: Bool[np.ndarray, "terms bits"]
    last: Bool[np.ndarray, "terms bits"]
    operation: Int[np.ndarray, "terms"]
    strengths: Float[Array, "terms"]
    rows: tuple[tuple[str, Rows], ...] = static()

    def unit_reads(self, inputs: Inputs) -> dict[str, Float[Array, "units channels"]]:
        """What each unit carries on the channels that some term reads, 0 on the others."""
        return {
            name: detect(carried(rows, inputs[name], self.markers[name])) * self.read[name]
            for name, rows in self.rows
        }

    def __call__(self, inputs: Inputs) -> Float[Array, "2"]:
        """Raw outputs of one example."""
        reads = self.unit_reads(inputs)
        flat = jnp.concatenate([jnp.sum(reads[name], 0) for name, _ in self.rows])
        bits = jnp.asarray(self.weight) * flat[jnp.asarray(self.channel)]
        present, last = jnp.asarray(self.present), jnp.asarray(self.last)

        def product(factors: Array, among: Array) -> Array:
            return jnp.prod(jnp.where(among, factors, 1.0), -1)

        total = jnp.sum(jnp.where(present, bits, 0.0), -1)
        final = product(bits, last)
        others = present & ~last
        positive = jax.nn.relu(bits)
        values = {
            "sum": total,
            "product": product(bits, present),
            "either": jnp.tanh(3.0 * total),
            "gate": product(positive, others) * final,
            "flip": product(1.0 - 2.0 * positive, others) * final,
        }
        table = jnp.stack([values[op] for op in OPERATIONS])
        terms = jnp.take_along_axis(table, jnp.asarray(self.operation)[None], 0)[0]
        s = jnp.dot(self.strengths, terms)
        return jnp.stack([-1.5 * s, 1.5 * s])


def pack(exact: WorldModel) -> PackedWorld:
    """The declaration of a world's model as arrays.

    Raises:
      InputError: more than 12 terms or 6 bits in one.
    """
    most = max(len(term.bits) for term in exact.terms)
    if len(exact.terms) > TERMS or most > BITS:
        raise InputError(
            "world",
            f"has {len(exact.terms)} terms of up to {most} bits",
            f"at most {TERMS} and {BITS} can be packed",
        )
    start, markers, read, count = {}, {}, {}, 0
    for name, rows in exact.rows:
        room = rows.size if rows.size > 1 else rows.units
        have = exact.markers[name]
        markers[name] = jnp.zeros((room, have.shape[1]), have.dtype).at[: len(have)].set(have)
        read[name] = np.zeros(room, bool)
        start[name] = count
        count += room
    shape = (TERMS, BITS)
    channel, weight = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    present, last = np.zeros(shape, bool), np.zeros(shape, bool)
    operation = np.zeros(TERMS, np.int32)
    strengths = jnp.zeros(TERMS).at[: len(exact.terms)].set(exact.strengths)
    for i, term in enumerate(exact.terms):
        operation[i] = list(OPERATIONS).index(term.op)
        for j, bit in enumerate(term.bits):
            channel[i, j] = start[bit.modality] + bit.channel
            weight[i, j] = bit.weight
            read[bit.modality][bit.channel] = True
        present[i, : len(term.bits)] = True
        last[i, len(term.bits) - 1] = True
    return PackedWorld(
        markers, read, channel, weight, present, last, operation, strengths, exact.rows
    )


def packed_task(task: Task, alike: Sequence[Task] = ()) -> Task:
    """The task with its exact model and reference packed.

    Args:
      task: an analytic world.
      alike: other worlds that are to share programs; those over the same modalities count. Their
        reference explanations then enumerate equally many units.
    """
    if task.model is None or not isinstance(task.model.fn, WorldModel):
        raise InputError("task", f"{task.name!r} has no exact model", "use an analytic world")
    known: Any = task.reference
    same = [t for t in (task, *alike) if _rows(t) == _rows(task)]
    players = tuple(
        (name, max(dict(t.reference.players)[name] for t in same))  # pyright: ignore
        for name, _ in known.players
    )
    packed = pack(task.model.fn)
    return dataclasses.replace(
        task,
        model=FunctionModel(packed, task.model.link),
        reference=KnownContributions(task.modalities, packed, players, known.joint),
    )


def _rows(task: Task) -> Any:
    return task.model.fn.rows if task.model is not None else None
