"""What stands for a unit that is removed, as ``--reference`` names it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mmx_jax.modality import Modality
from mmx_jax.numerics import derive_key
from mmx_jax.typing import Inputs

__all__ = ["REFERENCES", "with_reference"]

REFERENCES = ("own", "zero", "mean", "marginal")
"""What ``--reference`` offers."""

DRAWS = 8
"""Draws of a marginal reference."""


def with_reference(
    modalities: dict[str, Modality], kind: str, background: Inputs, seed: int
) -> dict[str, Modality]:
    """The modalities with another reference; ``mean`` leaves token ids with their own."""
    if kind == "own":
        return modalities
    make: dict[str, Callable[[str, Modality], Modality]] = {
        "zero": lambda n, m: _zero(m, background[n]),
        "mean": lambda n, m: m if _ids(background[n]) else m.with_mean(background[n]),
        "marginal": lambda n, m: m.with_marginal(
            background[n],
            min(DRAWS, len(jax.tree.leaves(background[n])[0])),
            derive_key(seed, "reference"),  # one key: every modality takes the same rows
        ),
    }
    return {n: make[kind](n, m) for n, m in modalities.items()}


def _zero(modality: Modality, batch: Any) -> Modality:
    if _ids(batch):
        return modality  # id 0 may be a word
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape[1:], leaf.dtype), batch)
    return dataclasses.replace(modality, reference=zeros, draws=0, reference_kind="zero")


def _ids(batch: Any) -> bool:
    return all(np.issubdtype(np.asarray(leaf).dtype, np.integer) for leaf in jax.tree.leaves(batch))
