"""What the marks of an example say about its label: exact posteriors from a declaration.

Positions, sizes and background are drawn alike in every mode, so all that an example tells about
its label is which channels are marked, how often, and with which signs. The modes and the fair
signs behind them can be enumerated.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from mmx_jax.errors import InputError
from mmx_jax.tasks.algebra import Mode, Place

__all__ = [
    "MAX_LETTERS",
    "joint_of_sources",
    "letters_of",
    "posterior",
    "posterior_of_parts",
    "signs",
]

MAX_LETTERS = 12
"""Fair signs per example: 2**12 assignments are enumerated."""


def letters_of(modes: Sequence[Mode]) -> list[str]:
    """The fair signs of a declaration; the label's ``y`` comes first.

    Raises:
      InputError: more than 12.
    """
    found = {c for mode in modes for place in mode.places for c in place.sign if c.isalpha()}
    if len(found | {"y"}) > MAX_LETTERS:
        raise InputError(
            "modes",
            f"use {len(found | {'y'})} letters",
            f"use at most {MAX_LETTERS}; modes may share theirs",
        )
    return ["y", *sorted(found - {"y"})]


def signs(letters: Sequence[str]) -> Int[np.ndarray, "assignments letters"]:
    """All assignments of signs; bit i of the row's number says that letter i is +1."""
    return 2 * ((np.arange(1 << len(letters))[:, None] >> np.arange(len(letters))) & 1) - 1


def _sign_of(place: Place, letters: Sequence[str]) -> Int[np.ndarray, "assignments"]:
    chosen = [i for i, c in enumerate(letters) if c in place.sign]
    sign = np.prod(signs(letters)[:, chosen], axis=1, dtype=int)
    return -sign if "-" in place.sign else sign


def _counts(
    mode: Mode, letters: Sequence[str], channels: Sequence[tuple[str, int]]
) -> Int[np.ndarray, "assignments places kinds"]:
    """Per place a one-hot of its kind of mark: modality, channel and sign."""
    out = np.zeros((1 << len(letters), len(mode.places), 2 * len(channels)), np.int8)
    for j, place in enumerate(mode.places):
        kind = 2 * channels.index((place.modality, place.channel))
        out[np.arange(len(out)), j, kind + (_sign_of(place, letters) > 0)] = 1
    return out


def _channels(modes: Sequence[Mode]) -> list[tuple[str, int]]:
    return sorted({(p.modality, p.channel) for mode in modes for p in mode.places})


def _share_of_plus(
    seen: Int[np.ndarray, "rows kinds"],
    weight: Float[np.ndarray, "rows"],
    plus: Bool[np.ndarray, "rows"],
) -> Float[np.ndarray, "rows"]:
    """``P(y = 1 | what is seen)`` of every row, rows that look alike being one."""
    _, kind = np.unique(seen, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    mass = np.bincount(kind, weight)
    return (np.bincount(kind, weight * plus) / np.maximum(mass, 1e-300))[kind]


def posterior(modes: Sequence[Mode]) -> Float[np.ndarray, "modes assignments"]:
    """``P(y = 1 | all marks)`` of every mode and assignment of signs: the Bayes-optimal prediction.

    The parameters of the world are known to the one who predicts. Where two modes write the same
    marks for different labels, the prediction is their odds.
    """
    letters, channels = letters_of(modes), _channels(modes)
    seen = np.concatenate([_counts(mode, letters, channels).sum(1) for mode in modes])
    count = 1 << len(letters)
    weight = np.repeat([mode.weight / count for mode in modes], count)
    plus = np.tile(signs(letters)[:, 0] > 0, len(modes))
    return _share_of_plus(seen, weight, plus).reshape(len(modes), count)


def posterior_of_parts(
    modes: Sequence[Mode],
) -> list[Float[np.ndarray, "assignments subsets"]]:
    """``P(y = 1 | the marks in S)`` of every mode, for all sets S of its places.

    Marks outside S are hidden. The one who predicts knows that every mark was hidden with
    probability 1/2, but not which ones, nor the mode: an exact game of information, whose players
    are the places of the mode (bit j of S: place j is seen).
    """
    letters, channels = letters_of(modes), _channels(modes)
    count = 1 << len(letters)
    rows, weights = [], []
    for mode in modes:
        places = len(mode.places)
        subsets = (np.arange(1 << places)[:, None] >> np.arange(places)) & 1
        seen = np.einsum("sp,apk->ask", subsets.astype(np.int8), _counts(mode, letters, channels))
        rows.append(seen.reshape(-1, seen.shape[-1]))
        weights.append(np.full(len(rows[-1]), mode.weight / len(rows[-1])))
    plus = [
        np.repeat(signs(letters)[:, 0] > 0, 1 << len(mode.places)).reshape(-1) for mode in modes
    ]
    shares = _share_of_plus(np.concatenate(rows), np.concatenate(weights), np.concatenate(plus))
    cuts = np.cumsum([len(row) for row in rows])[:-1]
    return [part.reshape(count, -1) for part in np.split(shares, cuts)]


def joint_of_sources(modes: Sequence[Mode], first: str) -> Float[np.ndarray, "kinds1 kinds2 2"]:
    """The joint distribution of what modality ``first`` shows, what the others show, and the label.

    Marks, not positions: the table a partial information decomposition takes.
    """
    letters, channels = letters_of(modes), _channels(modes)
    count = 1 << len(letters)
    mine = np.repeat([channel[0] == first for channel in channels], 2)
    seen = np.concatenate([_counts(mode, letters, channels).sum(1) for mode in modes])
    sides = []
    for chosen in (mine, ~mine):
        _, kind = np.unique(seen[:, chosen], axis=0, return_inverse=True)
        sides.append(kind.reshape(-1))
    weight = np.repeat([mode.weight / count for mode in modes], count)
    plus = np.tile(signs(letters)[:, 0] > 0, len(modes)).astype(int)
    table = np.zeros((sides[0].max() + 1, sides[1].max() + 1, 2))
    np.add.at(table, (*sides, plus), weight)
    return table
