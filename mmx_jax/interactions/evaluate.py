"""Models on many coalitions: the tables that the measures of this room take, and two metrics.

Everything here runs whole data sets through :func:`~mmx_jax.map_examples`, a chunk of examples at a
time. The mask distribution is the intervention's (fixed or marginal references); the link is the
model's, or the one given.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Integer, PyTree

from mmx_jax.errors import InputError
from mmx_jax.games import MAX_PLAYERS, memberships
from mmx_jax.gates import unflatten
from mmx_jax.intervention import coalition_game, value
from mmx_jax.mapping import Progress, map_examples, map_stacked
from mmx_jax.model import Link, as_model
from mmx_jax.typing import ArrayLike, Inputs, Intervention, Model, Target

__all__ = [
    "accuracy",
    "coalition_outputs",
    "macro_f1",
    "modality_games",
    "unit_game",
    "unit_games",
]


def coalition_outputs(
    intervention: Intervention,
    model: Model,
    batch: Inputs,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    link: str | Link | None = None,
) -> Float[np.ndarray, "examples coalitions outputs"]:
    """Outputs of every example under every coalition of modalities.

    Args:
      intervention: what replaces an absent modality.
      model: the model.
      batch: inputs with a leading axis of examples.
      chunk, mesh, progress: as in :func:`~mmx_jax.map_examples`.
      link: the scale the game is played on; the model's own by default.

    Returns:
      ``[examples, 2**M, outputs]``; bit m of the coalition: the m-th sorted modality is present.
      Cost: 2**M model evaluations per example and reference draw; with a ``SplitModel`` one
      encoding per modality and draw, and 2**M fusions.

    Raises:
      InputError: more than 16 modalities.
    """
    if len(intervention.units) > MAX_PLAYERS:
        raise InputError(
            "intervention",
            f"has {len(intervention.units)} modalities",
            f"exact games take {MAX_PLAYERS}; merge some, or use interactions.SampledPairs",
        )
    return map_examples(
        _all_coalitions,
        intervention,
        as_model(model, link),
        batch,
        in_axes=(None, None, 0),
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )


def _all_coalitions(intervention: Intervention, model: Model, inputs: Inputs) -> Array:
    game = coalition_game(intervention, model, inputs)
    return map_stacked(game, jnp.arange(1 << len(intervention.units)))


def modality_games(
    intervention: Intervention,
    model: Model,
    batch: Inputs,
    targets: Integer[ArrayLike, "examples"] | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    link: str | Link | None = None,
) -> Float[np.ndarray, "examples coalitions"]:
    """The game of modalities of every example: its target's output under every coalition.

    Args:
      intervention, model, batch, chunk, mesh, progress, link: as in :func:`coalition_outputs`.
      targets: the output of each example; the predicted class by default, as InterSHAP has it.

    Returns:
      ``[examples, 2**M]``, ready for :func:`~mmx_jax.interactions.intershap` and the indices.
    """
    outputs = coalition_outputs(intervention, model, batch, chunk, mesh, progress, link)
    chosen = np.argmax(outputs[:, -1], -1) if targets is None else np.asarray(targets)
    return np.take_along_axis(outputs, chosen[:, None, None], -1)[..., 0]


def unit_game(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    chunk: int | None = None,
) -> Float[Array, "coalitions"]:
    """The game whose players are the units of all modalities, of one example.

    Args:
      intervention, model, inputs, target: as everywhere.
      chunk: coalitions computed at once.

    Returns:
      ``[2**units]``; players are the units of the first sorted modality, then of the next, and bit
      p of the coalition says that player p is present. Cost: 2**units model evaluations (times
      reference draws).

    Raises:
      InputError: more than 16 units in all.
    """
    units = intervention.units
    total = sum(units.values())
    if total > MAX_PLAYERS:
        raise InputError(
            "intervention",
            f"has {total} units",
            f"exact games take {MAX_PLAYERS}; use interactions.SampledPairs",
        )

    def play(coalition: Array) -> Array:
        gates = unflatten(memberships(total, coalition), units)
        return value(intervention, model, inputs, target, gates)

    return map_stacked(play, jnp.arange(1 << total), chunk=chunk)


def unit_games(
    intervention: Intervention,
    model: Model,
    batch: Inputs,
    targets: Integer[ArrayLike, "examples"],
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    link: str | Link | None = None,
) -> Float[np.ndarray, "examples coalitions"]:
    """The games of units (:func:`unit_game`) of many examples, for indices of any order over units.

    Args:
      intervention, model, batch, chunk, mesh, progress, link: as in :func:`coalition_outputs`.
      targets: the output of each example.

    Returns:
      ``[examples, 2**units]``, ready for the indices.
    """
    return map_examples(
        unit_game,
        intervention,
        as_model(model, link),
        batch,
        np.asarray(targets),
        in_axes=(None, None, 0, 0),
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )


def predictions(
    model: Model,
    batch: Inputs,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Integer[np.ndarray, "examples"]:
    """The predicted class of every example."""
    return map_examples(
        _predict,
        model,
        batch,
        in_axes=(None, 0),
        chunk=chunk,
        mesh=mesh,
        progress=progress,
    )


def _predict(model: Model, inputs: Inputs) -> Array:
    return jnp.argmax(model(inputs))


def accuracy(predicted: Integer[ArrayLike, "..."], labels: Integer[ArrayLike, "..."]) -> float:
    """The share of examples whose class is predicted.

    >>> accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0]))
    0.75
    """
    predicted, labels = _aligned(predicted, labels)
    return float(np.mean(predicted == labels))


def macro_f1(predicted: Integer[ArrayLike, "..."], labels: Integer[ArrayLike, "..."]) -> float:
    """The unweighted mean over classes of F1; a class that is never predicted counts 0.

    Classes are those that occur among the labels or the predictions.

    >>> macro_f1(np.array([0, 0]), np.array([0, 1]))
    0.3333333333333333
    """
    predicted, labels = _aligned(predicted, labels)
    scores = []
    for c in np.union1d(predicted, labels):
        both = np.sum((predicted == c) & (labels == c))
        scores.append(2 * both / (np.sum(predicted == c) + np.sum(labels == c)))
    return float(np.mean(scores))


def majority(labels: Integer[ArrayLike, "examples"]) -> Integer[np.ndarray, "examples"]:
    """The prediction that always names the most frequent class."""
    classes, counts = np.unique(np.asarray(labels), return_counts=True)
    return np.full(len(np.asarray(labels)), classes[np.argmax(counts)])


def _aligned(predicted: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or predicted.ndim != 1 or not len(labels):
        raise InputError(
            "predicted", f"has shape {predicted.shape} for labels {labels.shape}", "give one each"
        )
    return predicted, labels


def take(batch: PyTree, rows: Any) -> PyTree:
    """Rows of a batch."""
    return jax.tree.map(lambda leaf: leaf[rows], batch)
