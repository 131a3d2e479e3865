"""Multimodal tasks: worlds whose true contributions are known, and real digits with notes."""

from collections.abc import Callable

from mmx_jax.tasks.algebra import Bit, Mode, Place, Term, WorldModel
from mmx_jax.tasks.digits import digits, digits_shortcut
from mmx_jax.tasks.family import (
    noisy,
    parity3,
    parity4,
    parity5,
    sarcasm,
    suppressor,
    tabular_graphs,
)
from mmx_jax.tasks.identify import Identification, identify
from mmx_jax.tasks.reference import KnownContributions
from mmx_jax.tasks.structures import (
    Structure,
    conflicting,
    gate,
    misleading,
    mixture,
    redundancy,
    suppressing,
    synergy,
    uniqueness,
)
from mmx_jax.tasks.task import Batch, Task, draw
from mmx_jax.tasks.truth import ExactGames, Found, exact_games, found
from mmx_jax.tasks.world import world
from mmx_jax.tasks.worlds import (
    cancelling,
    duplicated,
    gated,
    mixed,
    mixed3,
    redundant,
    shortcut,
    unique,
    xor,
)

__all__ = [
    "TASKS",
    "WORLDS",
    "Batch",
    "Bit",
    "ExactGames",
    "Found",
    "Identification",
    "KnownContributions",
    "Mode",
    "Place",
    "Structure",
    "Task",
    "Term",
    "WorldModel",
    "cancelling",
    "conflicting",
    "digits",
    "digits_shortcut",
    "draw",
    "duplicated",
    "exact_games",
    "found",
    "gate",
    "gated",
    "identify",
    "misleading",
    "mixed",
    "mixed3",
    "mixture",
    "noisy",
    "parity3",
    "parity4",
    "parity5",
    "redundancy",
    "redundant",
    "sarcasm",
    "shortcut",
    "suppressing",
    "suppressor",
    "synergy",
    "tabular_graphs",
    "unique",
    "uniqueness",
    "world",
    "xor",
]

WORLDS: dict[str, Callable[[int], Task]] = {
    "mixed": mixed,
    "mixed3": mixed3,
    "gated": gated,
    "xor": xor,
    "redundant": redundant,
    "duplicated": duplicated,
    "unique": unique,
    "cancelling": cancelling,
    "shortcut": shortcut,
    "sarcasm": sarcasm,
    "suppressor": suppressor,
    "parity3": parity3,
    "parity4": parity4,
    "parity5": parity5,
    "noisy": noisy,
    "tabular-graphs": tabular_graphs,
}
"""Every world with known truth by its name; call it with a seed."""

TASKS: dict[str, Callable[[int], Task]] = {
    "digits": digits,
    "digits-shortcut": digits_shortcut,
    **WORLDS,
}
"""Every task by its name on the command line; call it with a seed."""
