"""What is exactly known of a world's examples: games of modalities, and who plays in them.

The declared truth (``Batch.truth``) says which units are relevant and which pairs interact. Here
both are found again by interventions on the exact model alone, and compared.
"""

import dataclasses
from itertools import combinations
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmx_jax.errors import InputError
from mmx_jax.games import memberships, moebius, shapley_values
from mmx_jax.gates import full
from mmx_jax.intervention import FeatureGates, coalition_values, value
from mmx_jax.mapping import map_examples, map_stacked
from mmx_jax.model import LOG_ODDS, FunctionModel, Link
from mmx_jax.tasks.reference import KnownContributions
from mmx_jax.tasks.task import Task
from mmx_jax.typing import Inputs, record, static

__all__ = ["ExactGames", "Found", "exact_games", "found"]

VISIBLE = 1e-2
"""Log-odds that an intervention must change to count as an effect, well above rounding; declared
units change them by more than 1 in some coalition."""


@record
class ExactGames:
    """Games of modalities, exact for the world's model under its own reference.

    Attributes:
      values: ``[n, 2**M]``, bit m: the m-th sorted modality is intact, the others removed.
      moebius: ``[n, 2**M]``, their dividends.
      shapley: per modality ``[n]``, its Shapley value.
    """

    values: Float[np.ndarray, "n coalitions"]
    moebius: Float[np.ndarray, "n coalitions"]
    shapley: dict[str, Float[np.ndarray, "n"]]


@record
class Found:
    """What interventions on the exact model find.

    Attributes:
      relevant: per modality ``[n, units]``: in some coalition the unit changes the log-odds.
      pairs: ``{(n, m): [n, units_n, units_m]}``: in some coalition the two units together change
        them by something else than the sum of what each does.
    """

    relevant: dict[str, Bool[np.ndarray, "n _"]]
    pairs: dict[tuple[str, str], Bool[np.ndarray, "n _ _"]]


@record
class _Values:
    intervention: FeatureGates
    target: int = static(default=1)

    def __call__(self, model: Any, inputs: Inputs) -> Array:
        return coalition_values(self.intervention, model, inputs, self.target)


@record
class _Game:
    """The game of all units that the model reads; the others can't matter to it."""

    intervention: FeatureGates
    known: KnownContributions

    def __call__(self, model: Any, inputs: Inputs) -> tuple[Array, dict[str, Array], Array]:
        """Its table, its players per modality, and what units beyond them read."""
        reads = self.known.world.unit_reads(inputs)
        chosen, unread = {}, jnp.zeros(())
        for name, count in self.known.players:
            if name in reads:
                size = jnp.max(jnp.abs(reads[name]), -1)
                order = jnp.argsort(-size)
                chosen[name] = order[:count]
                unread += jnp.sum(size[order[count:]])
        total = sum(len(spots) for spots in chosen.values())

        def play(coalition: Array) -> Array:
            present, start = memberships(total, coalition), 0
            gates = full(self.intervention.units)
            for name, spots in chosen.items():
                gates[name] = gates[name].at[spots].set(present[start : start + len(spots)])
                start += len(spots)
            return value(self.intervention, model, inputs, 1, gates)

        return map_stacked(play, jnp.arange(1 << total)), chosen, unread


def _analytic(task: Task) -> tuple[FunctionModel, KnownContributions]:
    if task.model is None or not isinstance(task.reference, KnownContributions):
        raise InputError("task", f"{task.name!r} has no exact model", "use an analytic world")
    return task.model, task.reference


def exact_games(task: Task, inputs: Inputs, link: Link | None = None) -> ExactGames:
    """Values, Moebius coefficients and Shapley values of the modalities of every example.

    Args:
      task: an analytic world.
      inputs: with a leading axis of examples.
      link: the scale of the values; the model's own (probabilities) if None.

    Raises:
      InputError: a task without an exact model.
    """
    model, _ = _analytic(task)
    scaled = model if link is None else dataclasses.replace(model, link=link)
    run = _Values(FeatureGates(task.modalities), task.target or 0)
    values = np.asarray(map_examples(run, scaled, inputs, in_axes=(None, 0)), np.float64)
    phi = np.asarray(shapley_values(values))
    names = sorted(task.modalities)
    return ExactGames(
        values, np.asarray(moebius(values)), {n: phi[:, i] for i, n in enumerate(names)}
    )


def found(task: Task, inputs: Inputs) -> Found:
    """Relevant units and interacting pairs, by playing all coalitions of the units that are read.

    The exact model is a function of what its units read, and most read exactly zero; so the game
    of the others is all there is. The scale is the log-odds, on which sums stay sums.

    Args:
      task: an analytic world.
      inputs: with a leading axis of examples.

    Raises:
      InputError: a task without an exact model, or examples with more marked units than the
        world's samples hold.
    """
    model, known = _analytic(task)
    gates = FeatureGates(task.modalities)
    raw = dataclasses.replace(model, link=LOG_ODDS)
    table, chosen, unread = map_examples(_Game(gates, known), raw, inputs, in_axes=(None, 0))
    if np.any(unread):
        raise InputError(
            "inputs", "hold more marked units than a sample of this world", "pass its own samples"
        )
    n, units = len(table), gates.units
    relevant = {m: np.zeros((n, count), bool) for m, count in units.items()}
    pairs = {(a, b): np.zeros((n, units[a], units[b]), bool) for a, b in combinations(units, 2)}
    players = [(m, i) for m, spots in chosen.items() for i in range(spots.shape[1])]
    cube = table.reshape(n, *(2,) * len(players))
    rows = np.arange(n)

    def moved(differences: np.ndarray) -> np.ndarray:
        return np.abs(differences).reshape(n, -1).max(1) > VISIBLE

    # player i is bit i of the index, hence axis -1 - i of the table
    for i, (a, first) in enumerate(players):
        step = np.diff(cube, axis=-1 - i)
        relevant[a][rows, chosen[a][:, first]] = moved(step)
        for j, (b, second) in enumerate(players[i + 1 :], i + 1):
            if a != b:
                bent = moved(np.diff(step, axis=-1 - j))
                pairs[a, b][rows, chosen[a][:, first], chosen[b][:, second]] = bent
    return Found(relevant, pairs)
