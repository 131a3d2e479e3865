"""Draws the examples of a declared world, each with its truth."""

from collections.abc import Sequence
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmx_jax.rows import Rows
from mmx_jax.tasks.algebra import Mode, Place, Term
from mmx_jax.tasks.task import Batch
from mmx_jax.typing import PRNGKey, record, static

__all__ = ["Placement", "WorldSampler", "pair_placements", "placement", "places_in"]

BACKGROUND = 0.3
"""Every coordinate without a marker is uniform within +- this, below what the model reads."""
AMPLITUDE = (1.02, 1.2)
"""The size of the marked coordinates of one example."""
EDGES = 0.4
"""The share of node pairs that an edge joins: the edges of a graph say nothing."""


@record
class Placement:
    """What each mode writes into one modality, padded to ``P`` units.

    Attributes:
      channel: the marker of each unit, -1 for none.
      nth: how many units before it carry the same marker.
      letters: which fair signs multiply into its sign.
      negative: whether its sign is flipped.
      relevant: whether it belongs to the truth.
    """

    channel: Int[np.ndarray, "modes P"]
    nth: Int[np.ndarray, "modes P"]
    letters: Bool[np.ndarray, "modes P letters"]
    negative: Bool[np.ndarray, "modes P"]
    relevant: Bool[np.ndarray, "modes P"]


@record
class WorldSampler:
    """``sampler(key, n) -> Batch``: mode, signs, size, positions and background of n examples.

    Attributes:
      markers: of the world's model (:class:`~mmx_jax.tasks.WorldModel`).
      placements: per modality what each mode writes.
      pairs: per two modalities which of the written units interact, ``[modes, P_n, P_m]``.
      weights: the share of each mode.
      set_only: per mode whether only a set of units is the truth.
      posterior: ``P(y = 1 | example)`` by mode and assignment of signs, before the noise.
      rows: how each modality falls into units.
      noise: the rate at which labels are flipped.
    """

    markers: dict[str, Float[Array, "channels dim"]]
    placements: dict[str, Placement]
    pairs: dict[tuple[str, str], Bool[np.ndarray, "modes _ _"]]
    weights: Float[np.ndarray, "modes"]
    set_only: Bool[np.ndarray, "modes"]
    posterior: Float[np.ndarray, "modes assignments"]
    rows: tuple[tuple[str, Rows], ...] = static()
    noise: float = static(default=0.0)

    def __call__(self, key: PRNGKey, n: int) -> Batch:
        """A batch of ``n`` examples."""
        width = 2 + self._letters + sum(_draws(rows) for _, rows in self.rows)
        width += int(self.noise > 0)
        # one draw for everything: each further call of the generator costs compile time
        return jax.vmap(self._example)(jax.random.uniform(key, (n, width), jnp.float32))

    @property
    def _letters(self) -> int:
        return next(iter(self.placements.values())).letters.shape[-1]

    def _example(self, draw: Float[Array, "width"]) -> Batch:
        mode = jnp.sum(draw[0] >= jnp.cumsum(jnp.asarray(self.weights))[:-1])
        size = AMPLITUDE[0] + (AMPLITUDE[1] - AMPLITUDE[0]) * draw[1]
        start = 2 + self._letters
        fair = draw[2:start] >= 0.5
        signs = jnp.where(fair, 1, -1).astype(jnp.float32)
        inputs, relevant, positions = {}, {}, {}
        for name, rows in self.rows:
            entries = rows.units * rows.size
            cuts = np.cumsum([entries, rows.units])
            part = draw[start : start + _draws(rows)]
            background, order, rest = jnp.split(part, cuts)
            start += _draws(rows)
            place = jax.tree.map(lambda leaf: jnp.asarray(leaf)[mode], self.placements[name])
            position = _positions(rows, self.markers[name], place, order)
            sign = jnp.prod(jnp.where(place.letters, signs, 1.0), -1)
            marked = size * jnp.where(place.negative, -sign, sign)
            coordinates = (2 * BACKGROUND * background - BACKGROUND).reshape(rows.units, rows.size)
            column = jnp.zeros_like(place.channel) if rows.size == 1 else place.channel
            coordinates = coordinates.at[position, column].set(marked, mode="drop")
            table = coordinates if rows.size == 1 else coordinates @ self.markers[name]
            edges = {"adjacency": _graph(rest, rows.units)} if rows.leaf else None
            inputs[name] = rows.join(table, edges)
            none = jnp.zeros(rows.units, bool)
            relevant[name] = none.at[position].set(place.relevant, mode="drop")
            positions[name] = position
        number = jnp.sum(fair << jnp.arange(self._letters))
        optimal = jnp.asarray(self.posterior)[mode, number].astype(jnp.float32)
        flipped = draw[-1] < self.noise if self.noise > 0 else False
        truth = {
            "mode": mode.astype(jnp.int32),
            "relevant": relevant,
            "set_only": jnp.asarray(self.set_only)[mode],
            "pairs": {
                (n, m): jnp.zeros((len(relevant[n]), len(relevant[m])), bool)
                .at[positions[n][:, None], positions[m][None, :]]
                .set(jnp.asarray(here)[mode], mode="drop")
                for (n, m), here in self.pairs.items()
            },
            "optimal": self.noise + (1 - 2 * self.noise) * optimal,
        }
        return Batch(inputs, ((signs[0] > 0) ^ flipped).astype(jnp.int32), truth)


def _draws(rows: Rows) -> int:
    """Uniform numbers that one modality of an example takes."""
    return rows.units * (rows.size + 1 + (rows.units if rows.leaf else 0))


def _positions(
    rows: Rows,
    markers: Float[Array, "channels dim"],
    place: Placement,
    order: Float[Array, "units"],
) -> Int[Array, "P"]:
    """The unit of each place, at random; ``units`` (none) for padding.

    Where channels are sets of columns, a place takes the next column of its set.
    """
    written = place.channel >= 0
    if rows.size > 1:
        position = jnp.argsort(order)[: place.channel.shape[0]]
    else:
        owner = jnp.argmax(markers, 0)
        earlier = (order[None, :] < order[:, None]) & (owner[None, :] == owner[:, None])
        turn = jnp.sum(earlier, 1)
        hit = (owner == place.channel[:, None]) & (turn == place.nth[:, None])
        position = jnp.argmax(hit, 1)
    return jnp.where(written, position, rows.units)


def _graph(draw: Float[Array, "entries"], units: int) -> Float[Array, "units units"]:
    upper = jnp.triu(draw.reshape(units, units) < EDGES, 1)
    return (upper | upper.T).astype(jnp.float32)


def places_in(mode: Mode, modality: str) -> list[Place]:
    """What a mode writes into one modality."""
    return [place for place in mode.places if place.modality == modality]


def placement(modality: str, modes: Sequence[Mode], letters: Sequence[str]) -> Placement:
    """The places of all modes in one modality, as arrays."""
    slots = max(len(places_in(mode, modality)) for mode in modes)
    channel = np.full((len(modes), slots), -1)
    nth = np.zeros((len(modes), slots), int)
    flags = np.zeros((len(modes), slots, len(letters) + 2), bool)
    for i, mode in enumerate(modes):
        for j, place in enumerate(places_in(mode, modality)):
            nth[i, j] = np.sum(channel[i, :j] == place.channel)
            channel[i, j] = place.channel
            flags[i, j] = [*(c in place.sign for c in letters), "-" in place.sign, place.relevant]
    return Placement(channel, nth, flags[..., :-2], flags[..., -2], flags[..., -1])


def pair_placements(
    modalities: Sequence[str], terms: Sequence[Term], modes: Sequence[Mode]
) -> dict[tuple[str, str], Bool[np.ndarray, "modes _ _"]]:
    """Which two written units interact: both relevant, and read by one term that is no sum."""
    together = {
        frozenset(((a.modality, a.channel), (b.modality, b.channel)))
        for term in terms
        if term.op != "sum"
        for a in term.bits
        for b in term.bits
    }

    def interact(a: Place, b: Place) -> bool:
        both = frozenset(((a.modality, a.channel), (b.modality, b.channel)))
        return a.relevant and b.relevant and both in together

    out = {}
    for n, m in combinations(sorted(modalities), 2):
        sizes = [max(len(places_in(mode, name)) for mode in modes) for name in (n, m)]
        table = np.zeros((len(modes), *sizes), bool)
        for i, mode in enumerate(modes):
            for j, a in enumerate(places_in(mode, n)):
                for k, b in enumerate(places_in(mode, m)):
                    table[i, j, k] = interact(a, b)
        out[n, m] = table
    return out
