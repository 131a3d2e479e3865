"""Multimodal tasks: worlds whose true contributions are known, and real digits with notes."""

from collections.abc import Callable

from mmx_jax.tasks.algebra import Bit, Mode, Place, Term, WorldModel
from mmx_jax.tasks.digits import digits, digits_shortcut
from mmx_jax.tasks.reference import KnownContributions
from mmx_jax.tasks.task import Batch, Task
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
    "Batch",
    "Bit",
    "KnownContributions",
    "Mode",
    "Place",
    "Task",
    "Term",
    "WorldModel",
    "cancelling",
    "digits",
    "digits_shortcut",
    "duplicated",
    "gated",
    "mixed",
    "mixed3",
    "redundant",
    "shortcut",
    "unique",
    "world",
    "xor",
]

TASKS: dict[str, Callable[[int], Task]] = {
    "digits": digits,
    "digits-shortcut": digits_shortcut,
    "mixed": mixed,
    "mixed3": mixed3,
    "gated": gated,
    "xor": xor,
    "redundant": redundant,
    "duplicated": duplicated,
    "unique": unique,
    "cancelling": cancelling,
    "shortcut": shortcut,
}
"""Every task by its name on the command line; call it with a seed."""
