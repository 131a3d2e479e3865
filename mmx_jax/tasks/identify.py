"""Is the declared truth of a world recoverable? From its exact model, and from its data.

From the model: interventions must find exactly the declared units and pairs. From the data: a
unit that is declared irrelevant must say nothing of the label beside the others, once the kind of
example (the mode) is known, and a relevant one must say something. A generator that copies one
feature onto another by accident (the aliased *switch* data of the field) passes the first check
and fails the second: nobody can tell which of the two is meant, and only one is declared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from mmx_jax.errors import InputError
from mmx_jax.numerics import derive_key
from mmx_jax.tasks.algebra import Mode, Place
from mmx_jax.tasks.observed import posterior_of_parts
from mmx_jax.tasks.task import Task
from mmx_jax.tasks.truth import found

__all__ = ["Identification", "identify"]


class Identification(NamedTuple):
    """Whether the declared truth can be found again.

    Attributes:
      from_model: by interventions on the exact model.
      from_data: from examples and labels alone, so that a trained network should use the same
        units; False in a shortcut world, whose truth is its model's.
      reasons: a sentence for everything that can't.
    """

    from_model: bool
    from_data: bool
    reasons: tuple[str, ...]


def identify(task: Task, seed: int = 0, examples: int = 64) -> Identification:
    """Checks a declared world.

    Args:
      task: built by :func:`~mmx_jax.tasks.world` or :func:`~mmx_jax.tasks.mixture`.
      seed: of the examples.
      examples: how many are intervened on.

    Raises:
      InputError: a task that was not declared.
    """
    if not task.declared:
        raise InputError("task", f"{task.name!r} declares no modes", "use an analytic world")
    model = _from_model(task, seed, examples)
    data = _from_data(task.declared)
    return Identification(not model, not data, (*model, *data))


def _from_model(task: Task, seed: int, examples: int) -> list[str]:
    draw = jax.jit(task.sample, static_argnums=1)
    batch = draw(derive_key(seed, "identification"), examples)
    seen = found(task, batch.inputs)
    mode = np.asarray(batch.truth["mode"])
    reasons = []
    for what, declared, recovered in (
        ("units", batch.truth["relevant"], seen.relevant),
        ("pairs", batch.truth["pairs"], seen.pairs),
    ):
        for name, truth in declared.items():
            wrong = np.asarray(truth) != np.asarray(recovered[name])
            for i, label in enumerate(task.modes):
                count = int(wrong[mode == i].any(axis=tuple(range(1, wrong.ndim))).sum())
                if count:
                    where = name if isinstance(name, str) else " and ".join(name)
                    reasons.append(
                        f"{label}: the model uses other {what} of {where} than declared on {count} "
                        f"of {int((mode == i).sum())} examples"
                    )
    return reasons


def _from_data(modes: Sequence[Mode]) -> list[str]:
    """Compares the declaration with two games of information.

    A mark that is declared irrelevant must be a null player where the mode is known. A relevant
    one must move the prediction there, or where the mode has to be guessed (as a gate's does).
    """
    ever = {(p.modality, p.channel) for mode in modes for p in mode.places if p.relevant}
    slim = [mode._replace(places=tuple(_telling(mode, ever))) for mode in modes]
    guessed = posterior_of_parts(slim)
    reasons = []
    for mode, unknown in zip(slim, guessed, strict=True):
        (known,) = posterior_of_parts([mode._replace(weight=1.0)])
        for j, place in enumerate(mode.places):
            says = _moves(known, j)
            where = f"{mode.name}: channel {place.channel} of {place.modality}"
            if says and not place.relevant:
                reasons.append(f"{where} is declared irrelevant and predicts the label")
            if place.relevant and not says and not _moves(unknown, j):
                reasons.append(f"{where} is declared relevant and says nothing of the label")
    return reasons


def _telling(mode: Mode, ever: set[tuple[str, int]]) -> list[Place]:
    """The places without those on channels that never matter, with a fair sign of their own.

    Such a mark is independent of everything else in its mode, so it is a null player there.
    """
    uses = [c for place in mode.places for c in set(place.sign) if c.isalpha() and c != "y"]
    return [
        place
        for place in mode.places
        if (place.modality, place.channel) in ever
        or not any(c in place.sign and uses.count(c) == 1 for c in uses)
    ]


def _moves(game: np.ndarray, player: int) -> bool:
    """Whether a player changes the value of some coalition under some assignment of signs."""
    size = game.shape[1]
    without = np.arange(size)[(np.arange(size) >> player) & 1 == 0]
    return bool(np.max(np.abs(game[:, without | (1 << player)] - game[:, without])) > 1e-9)
