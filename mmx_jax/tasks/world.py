"""Builds a task of a declared world: its model, its sampler and its known contributions."""

from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.model import SOFTMAX, FunctionModel
from mmx_jax.numerics import derive_key, is_inexact
from mmx_jax.rows import Rows
from mmx_jax.tasks.algebra import OPERATIONS, Bit, Mode, Place, Term, WorldModel
from mmx_jax.tasks.observed import letters_of, posterior
from mmx_jax.tasks.reference import KnownContributions
from mmx_jax.tasks.sampler import WorldSampler, pair_placements, placement, places_in
from mmx_jax.tasks.task import Task
from mmx_jax.typing import PRNGKey

__all__ = ["check_weights", "world"]


def world(
    name: str,
    seed: int,
    modalities: dict[str, Modality],
    terms: Sequence[Term],
    modes: Sequence[Mode],
    description: str,
    noise: float = 0.0,
) -> Task:
    """A task from the declaration of its interactions.

    Markers (random orthonormal bases; for columns, which channel a column belongs to) and the
    strengths of the terms (.9 to 1.1) are drawn from the seed; positions, signs, sizes and
    background from the key of each sample.

    Args:
      name: as the command line calls it.
      seed: of the world's parameters.
      modalities: with a row per unit.
      terms: what the model reads.
      modes: kinds of examples; weights sum to 1.
      description: in plain words.
      noise: the rate at which labels are flipped, at most 1/2; the model's ``y`` stays clean.

    Raises:
      InputError: no modality, weights that don't sum to 1, a mode that writes more units than
        there are, a channel beyond a modality's dimension, an unknown modality or operation,
        integers, or a reference that is not zero.
    """
    check_modalities(modalities)
    _check_absence(modalities)
    rows = tuple((m, Rows.of(modalities[m])) for m in sorted(modalities))
    _check(dict(rows), terms, modes)
    if not 0 <= noise <= 0.5:
        raise InputError("noise", f"is {noise}", "use a rate from 0 to 0.5")
    channels = _channels(terms, modes)
    markers = {m: _markers(seed, m, r, channels.get(m, 1)) for m, r in rows}
    key = derive_key(seed, "strengths")
    strengths = jax.random.uniform(key, (len(terms),), jnp.float32, 0.9, 1.1)
    exact = WorldModel(markers, strengths, tuple(terms), rows)
    letters = letters_of(modes)
    sampler = WorldSampler(
        markers,
        {m: placement(m, modes, letters) for m, _ in rows},
        pair_placements([m for m, _ in rows], terms, modes),
        np.array([mode.weight for mode in modes], np.float32),
        np.array([mode.set_only for mode in modes]),
        posterior(modes),
        rows,
        noise,
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
        declared=tuple(modes),
    )


def _markers(seed: int, name: str, rows: Rows, channels: int) -> Float[Array, "channels dim"]:
    key = derive_key(seed, f"markers of {name}")
    if rows.size > 1:
        return _basis(key, rows.size)
    owner = jax.random.permutation(key, jnp.arange(rows.units) % channels)
    return (owner == jnp.arange(channels)[:, None]).astype(jnp.float32)


def _basis(key: PRNGKey, size: int) -> Float[Array, "dim dim"]:
    return jnp.linalg.qr(jax.random.normal(key, (size, size), jnp.float32))[0].T


def _read(mode: Mode, modality: str, read: set[tuple[str, int]]) -> list[Place]:
    return [p for p in places_in(mode, modality) if (modality, p.channel) in read]


def _items(terms: Sequence[Term], modes: Sequence[Mode]) -> list[Bit | Place]:
    return [*(b for t in terms for b in t.bits), *(p for mode in modes for p in mode.places)]


def _channels(terms: Sequence[Term], modes: Sequence[Mode]) -> dict[str, int]:
    """Per modality how many channels are read or written."""
    out: dict[str, int] = {}
    for item in _items(terms, modes):
        out[item.modality] = max(out.get(item.modality, 0), item.channel + 1)
    return out


def check_weights(what: str, weights: Sequence[float]) -> None:
    """Raises where shares are not positive or don't sum to 1; NaN is neither."""
    total = sum(weights)
    if not abs(total - 1) <= 1e-6:
        raise InputError(what, f"have weights that sum to {total:g}", "use positive ones, sum 1")
    if not min(weights) > 0:
        raise InputError(what, f"have a weight of {min(weights):g}", "use positive ones, sum 1")


def _check_absence(modalities: dict[str, Modality]) -> None:
    """Raises where what is written, or what stands for a removed unit, is no real zero."""
    for name, modality in modalities.items():
        reference = jax.tree.leaves(modality.reference)
        if not all(is_inexact(leaf) for leaf in reference):
            raise InputError(
                f"modalities[{name!r}]", "holds integers", "use tokens of real entries, or others"
            )
        if modality.draws or any(np.any(leaf) for leaf in reference):
            raise InputError(
                f"modalities[{name!r}]",
                f"has a {modality.reference_kind} reference",
                "keep the zero one: the truth of a world says what matters against zeros",
            )


def _check(rows: dict[str, Rows], terms: Sequence[Term], modes: Sequence[Mode]) -> None:
    if not terms or not modes:
        raise InputError("terms, modes", "are empty", "declare at least one of each")
    check_weights("modes", [mode.weight for mode in modes])
    for term in terms:
        if term.op not in OPERATIONS:
            raise InputError("op", f"is {term.op!r}", f"use {', '.join(OPERATIONS)}")
    for item in _items(terms, modes):
        if item.modality not in rows:
            raise InputError("modality", f"is {item.modality!r}", f"use {', '.join(rows)}")
        here = rows[item.modality]
        # a channel is a direction of a unit's row, or a set of units that have one entry
        most = here.size if here.size > 1 else here.units
        if not 0 <= item.channel < most:
            raise InputError(
                "channel", f"is {item.channel} in {item.modality!r}", f"use 0 to {most - 1}"
            )
    channels = _channels(terms, modes)
    for mode in modes:
        for name, row in rows.items():
            written = places_in(mode, name)
            if len(written) > row.units:
                raise InputError(
                    f"mode {mode.name!r}",
                    f"writes {len(written)} units into {name!r}",
                    f"it has {row.units}",
                )
            most = max(Counter(p.channel for p in written).values(), default=0)
            if row.size == 1 and most > row.units // channels.get(name, 1):
                raise InputError(
                    f"mode {mode.name!r}",
                    f"writes one channel of {name!r} {most} times, and {row.units} units of one "
                    f"entry share {channels[name]} channels",
                    f"give it at least {most * channels[name]} units",
                )
