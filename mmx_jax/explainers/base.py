"""What the explainers share: checks with clear messages, real leaves, and chunks of model calls."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from mmx_jax.errors import InputError
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import default_chunk
from mmx_jax.modality import Modality
from mmx_jax.model import pick
from mmx_jax.numerics import combine, is_inexact, partition
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target

__all__ = [
    "baselines",
    "calls",
    "check_at_least",
    "check_key",
    "check_real",
    "draws_of",
    "feature_gates",
    "gradient",
    "reduce",
    "units_of",
]


def units_of(modalities: dict[str, Modality]) -> dict[str, int]:
    """The number of units per modality, sorted by name."""
    return {name: modalities[name].units for name in sorted(modalities)}


def draws_of(modalities: dict[str, Modality]) -> int:
    """How many model calls one gated value takes: one per reference draw."""
    return max(1, *(m.draws for m in modalities.values()))


def calls(modalities: dict[str, Modality], rows: int) -> int:
    """Model calls of so many gated values: one per reference draw each."""
    return rows * draws_of(modalities)


def feature_gates(
    modalities: dict[str, Modality], chunk: int | None = None
) -> tuple[FeatureGates, int]:
    """The gates, and how many gated values to compute at once.

    ``chunk`` counts model calls; a value takes one per reference draw, so fewer values fit.
    """
    limit = default_chunk() if chunk is None else chunk
    return FeatureGates(modalities, limit), max(1, limit // draws_of(modalities))


def check_key(method: str, key: PRNGKey | None) -> PRNGKey:
    """The key, or an error where a sampler got none."""
    if key is None:
        raise InputError("key", "is None", f"{method} samples: pass one, as jax.random.key(0)")
    return key


def check_at_least(least: int, **settings: int | None) -> None:
    """Raises where a setting that counts something is too small (None is left to its default)."""
    for name, setting in settings.items():
        if setting is not None and setting < least:
            raise InputError(name, f"is {setting}", f"use {least} or more")


def check_real(
    method: str, modalities: dict[str, Modality], inputs: Inputs, every_leaf: bool = False
) -> None:
    """Raises where a modality holds only integers (or any, with ``every_leaf``)."""
    for name in sorted(modalities):
        real = [is_inexact(leaf) for leaf in jax.tree.leaves(inputs[name])]
        if not (all(real) if every_leaf else any(real)):
            raise InputError(
                f"inputs[{name!r}]",
                f"holds integers, on which {method} is not defined",
                "explain this modality by Occlusion or a Shapley method, and the others as you "
                "like: Composite joins them",
            )


def baselines(
    modalities: dict[str, Modality], inputs: Inputs
) -> Callable[[int | Int[Array, ""]], PyTree]:
    """From the number of a draw to the real leaves with every unit at its reference.

    Integer leaves are None. A fixed reference is blended once, outside the caller's loop.
    """

    def at(draw: int | Int[Array, ""]) -> PyTree:
        closed = {
            name: m.blend(inputs[name], jnp.zeros((m.units,), bool), draw)
            for name, m in modalities.items()
        }
        return partition(closed)[0]

    if draws_of(modalities) > 1:
        return at
    fixed = at(0)
    return lambda draw: fixed


def gradient(
    modalities: dict[str, Modality], model: Model, inputs: Inputs, target: Target
) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """The real leaves of the explained modalities, and the gradient of ``v`` at other such leaves.

    Integer leaves, and inputs that are no modality here, stay as they are.
    """
    real, rest = partition({name: inputs[name] for name in modalities})

    def value(moved: PyTree) -> Any:
        return pick(model(inputs | combine(moved, rest)), target)

    return real, jax.grad(value)


def reduce(modalities: dict[str, Modality], elements: PyTree) -> Scores:
    """Scores of units: the sums of the attributions of their entries."""
    return {name: modalities[name].reduce(elements[name]) for name in sorted(modalities)}
