"""Builds a task of a declared world: samples its examples and keeps its truth."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmx_jax.errors import InputError
from mmx_jax.modality import Modality, check_modalities
from mmx_jax.model import SOFTMAX, FunctionModel
from mmx_jax.numerics import derive_key
from mmx_jax.rows import Rows
from mmx_jax.tasks.algebra import OPERATIONS, Mode, Place, Term, WorldModel
from mmx_jax.tasks.reference import KnownContributions
from mmx_jax.tasks.task import Batch, Task
from mmx_jax.typing import PRNGKey, record, static

__all__ = ["Placement", "WorldSampler", "world"]

BACKGROUND = 0.3
"""Every coordinate without a marker is uniform within +- this, below what the model reads."""
AMPLITUDE = (1.02, 1.2)
"""The size of the marked coordinates of one example; above 1, so that ``either`` saturates."""


@record
class Placement:
    """What each mode writes into one modality, padded to ``P`` units.

    Attributes:
      channel: the marker of each unit, -1 for none.
      letters: which fair signs multiply into its sign.
      negative: whether its sign is flipped.
      relevant: whether it belongs to the truth.
    """

    channel: Int[np.ndarray, "modes P"]
    letters: Bool[np.ndarray, "modes P letters"]
    negative: Bool[np.ndarray, "modes P"]
    relevant: Bool[np.ndarray, "modes P"]


@record
class WorldSampler:
    """``sampler(key, n) -> Batch``: mode, signs, size, positions and background of n examples.

    Attributes:
      markers: per modality an orthonormal basis; row k marks channel k.
      placements: per modality what each mode writes.
      weights: the share of each mode.
      set_only: per mode whether only a set of units is the truth.
      rows: how each modality falls into units.
    """

    markers: dict[str, Float[Array, "dim dim"]]
    placements: dict[str, Placement]
    weights: Float[np.ndarray, "modes"]
    set_only: Bool[np.ndarray, "modes"]
    rows: tuple[tuple[str, Rows], ...] = static()

    def __call__(self, key: PRNGKey, n: int) -> Batch:
        """A batch of ``n`` examples."""
        width = 2 + self._letters + sum(rows.units * (rows.size + 1) for _, rows in self.rows)
        # one draw for everything: each further call of the generator costs compile time
        return jax.vmap(self._example)(jax.random.uniform(key, (n, width), jnp.float32))

    @property
    def _letters(self) -> int:
        return next(iter(self.placements.values())).letters.shape[-1]

    def _example(self, draw: Float[Array, "width"]) -> Batch:
        mode = jnp.sum(draw[0] >= jnp.cumsum(jnp.asarray(self.weights))[:-1])
        size = AMPLITUDE[0] + (AMPLITUDE[1] - AMPLITUDE[0]) * draw[1]
        start = 2 + self._letters
        signs = jnp.where(draw[2:start] < 0.5, -1, 1).astype(jnp.float32)
        inputs, relevant = {}, {}
        for name, rows in self.rows:
            entries = rows.units * rows.size
            background, order = jnp.split(draw[start : start + entries + rows.units], [entries])
            start += entries + rows.units
            place = jax.tree.map(lambda leaf: jnp.asarray(leaf)[mode], self.placements[name])
            position = jnp.argsort(order)[: place.channel.shape[0]]
            written = place.channel >= 0
            sign = jnp.prod(jnp.where(place.letters, signs, 1.0), -1)
            marked = size * jnp.where(place.negative, -sign, sign)
            coordinates = (2 * BACKGROUND * background - BACKGROUND).reshape(rows.units, rows.size)
            before = coordinates[position, place.channel]
            coordinates = coordinates.at[position, place.channel].set(
                jnp.where(written, marked, before)
            )
            inputs[name] = rows.join(coordinates @ self.markers[name])
            relevant[name] = jnp.zeros(rows.units, bool).at[position].set(written & place.relevant)
        truth = {
            "mode": mode.astype(jnp.int32),
            "relevant": relevant,
            "set_only": jnp.asarray(self.set_only)[mode],
        }
        return Batch(inputs, (signs[0] > 0).astype(jnp.int32), truth)


def world(
    name: str,
    seed: int,
    modalities: dict[str, Modality],
    terms: Sequence[Term],
    modes: Sequence[Mode],
    description: str,
) -> Task:
    """A task from the declaration of its interactions.

    Markers (random orthonormal bases) and the strengths of the terms (.9 to 1.1) are drawn from
    the seed; positions, signs, sizes and background from the key of each sample.

    Args:
      name: as the command line calls it.
      seed: of the world's parameters.
      modalities: with a row per unit.
      terms: what the model reads.
      modes: kinds of examples; weights sum to 1.
      description: in plain words.

    Raises:
      InputError: weights that don't sum to 1, a mode that writes more units than there are,
        a channel beyond a modality's dimension, an unknown modality or operation.
    """
    check_modalities(modalities)
    rows = tuple((m, Rows.of(modalities[m])) for m in sorted(modalities))
    _check(dict(rows), terms, modes)
    markers = {m: _basis(derive_key(seed, f"markers of {m}"), r.size) for m, r in rows}
    key = derive_key(seed, "strengths")
    strengths = jax.random.uniform(key, (len(terms),), jnp.float32, 0.9, 1.1)
    exact = WorldModel(markers, strengths, tuple(terms), rows)
    letters = sorted({c for mode in modes for p in mode.places for c in p.sign if c.isalpha()})
    letters = ["y", *(c for c in letters if c != "y")]
    sampler = WorldSampler(
        markers,
        {m: _placement(m, modes, letters) for m, _ in rows},
        np.array([mode.weight for mode in modes], np.float32),
        np.array([mode.set_only for mode in modes]),
        rows,
    )
    read = {(b.modality, b.channel) for term in terms for b in term.bits}
    players = tuple((m, max(len(_read(mode, m, read)) for mode in modes)) for m, _ in rows)
    return Task(
        modalities,
        sampler,
        sampler,
        FunctionModel(exact, SOFTMAX),
        KnownContributions(modalities, exact, players),
        name=name,
        outputs=2,
        target=1,
        target_names=("minus", "plus"),
        modes=tuple(mode.name for mode in modes),
        description=description,
    )


def _basis(key: PRNGKey, size: int) -> Float[Array, "dim dim"]:
    return jnp.linalg.qr(jax.random.normal(key, (size, size), jnp.float32))[0].T


def _of(mode: Mode, modality: str) -> list[Place]:
    return [place for place in mode.places if place.modality == modality]


def _read(mode: Mode, modality: str, read: set[tuple[str, int]]) -> list[Place]:
    return [place for place in _of(mode, modality) if (modality, place.channel) in read]


def _placement(modality: str, modes: Sequence[Mode], letters: Sequence[str]) -> Placement:
    slots = max(len(_of(mode, modality)) for mode in modes)
    channel = np.full((len(modes), slots), -1)
    flags = np.zeros((len(modes), slots, len(letters) + 2), bool)
    for i, mode in enumerate(modes):
        for j, place in enumerate(_of(mode, modality)):
            channel[i, j] = place.channel
            flags[i, j] = [*(c in place.sign for c in letters), "-" in place.sign, place.relevant]
    return Placement(channel, flags[..., :-2], flags[..., -2], flags[..., -1])


def _check(rows: dict[str, Rows], terms: Sequence[Term], modes: Sequence[Mode]) -> None:
    if not terms or not modes:
        raise InputError("terms, modes", "are empty", "declare at least one of each")
    total = sum(mode.weight for mode in modes)
    if abs(total - 1) > 1e-6 or min(mode.weight for mode in modes) <= 0:
        raise InputError("modes", f"have weights that sum to {total}", "use positive ones, sum 1")
    for term in terms:
        if term.op not in OPERATIONS:
            raise InputError("op", f"is {term.op!r}", f"use {', '.join(OPERATIONS)}")
    for item in [*(b for t in terms for b in t.bits), *(p for mode in modes for p in mode.places)]:
        if item.modality not in rows:
            raise InputError("modality", f"is {item.modality!r}", f"use {', '.join(rows)}")
        if not 0 <= item.channel < rows[item.modality].size:
            raise InputError(
                "channel",
                f"is {item.channel} in {item.modality!r}",
                f"use 0 to {rows[item.modality].size - 1}",
            )
    for mode in modes:
        for name, row in rows.items():
            if len(_of(mode, name)) > row.units:
                raise InputError(
                    f"mode {mode.name!r}",
                    f"writes {len(_of(mode, name))} units into {name!r}",
                    f"it has {row.units}",
                )
