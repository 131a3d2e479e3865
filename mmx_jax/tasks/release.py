"""The released version of the worlds: fixed seeds, arrays of every split, and a full declaration.

A version is never changed: whatever alters one number of a world raises :data:`VERSION`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.mapping import map_examples
from mmx_jax.modality import Modality
from mmx_jax.numerics import derive_key
from mmx_jax.tasks.algebra import QUIET, WorldModel
from mmx_jax.tasks.task import Task
from mmx_jax.tasks.truth import exact_games
from mmx_jax.typing import record, static

__all__ = ["SEED", "SPLITS", "VERSION", "declaration", "digest", "parameters", "split_arrays"]

VERSION = "1"
SEED = 2506
"""Of the parameters of every released world."""
SPLITS = {"train": 4000, "validation": 500, "test": 1000}
"""Examples per split; each has a key of its own."""


@record
class _Explain:
    reference: Any
    target: int = static(default=1)

    def __call__(self, model: Any, inputs: Any) -> Any:
        return model(inputs), self.reference(model, inputs, self.target, None)


def _flat(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    if isinstance(tree, Mapping):
        out: dict[str, np.ndarray] = {}
        for key, value in tree.items():
            name = key if isinstance(key, str) else "*".join(key)
            out |= _flat(f"{prefix}/{name}", value)
        return out
    return {prefix: np.asarray(tree)}


def split_arrays(task: Task, split: str, count: int, seed: int = SEED) -> dict[str, np.ndarray]:
    """The arrays of one split, slashes in nested names.

    ``inputs/...``, ``labels``, ``mode``, ``relevant/m``, ``set_only``, ``pairs/n*m`` and
    ``optimal`` as in :class:`~mmx_jax.tasks.Batch`; of the exact model ``outputs``
    (probabilities), ``games/values`` and ``games/moebius`` ``[n, 2**M]`` (bit m: the m-th sorted
    modality is present), ``games/shapley/m``, and ``contributions/m``: the reference explanation,
    exact Shapley values of the units within each modality.

    Args:
      task: an analytic world.
      split: ``"train"``, ``"validation"`` or ``"test"``.
      count: how many examples.
      seed: of the examples.

    Raises:
      InputError: a count below 1, or a task without an exact model.
      UnknownNameError: another split.
    """
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if count < 1:
        raise InputError(split, f"is {count}", "use a positive number of examples")
    if task.model is None or task.reference is None:
        raise InputError("task", f"{task.name!r} has no exact model", "use an analytic world")
    key = derive_key(seed, f"release {VERSION} of {task.name}, {split}")
    batch = jax.jit(task.sample, static_argnums=1)(key, count)
    explain = _Explain(task.reference, task.target or 0)
    outputs, scores = map_examples(explain, task.model, batch.inputs, in_axes=(None, 0))
    games = exact_games(task, batch.inputs)
    out = _flat("inputs", batch.inputs) | {"labels": np.asarray(batch.labels)}
    for name, value in batch.truth.items():
        out |= _flat(name, value)
    out |= {"outputs": outputs} | _flat("contributions", scores)
    exact = {"values": games.values, "moebius": games.moebius, "shapley": games.shapley}
    return out | _flat("games", exact)


def parameters(task: Task) -> dict[str, np.ndarray]:
    """Markers and strengths of the exact model, so that it can be written again elsewhere."""
    exact = _exact(task)
    return _flat("markers", exact.markers) | {"strengths": np.asarray(exact.strengths)}


def declaration(task: Task) -> dict[str, Any]:
    """Everything of a world but its numbers, as plain values: modalities, terms and modes."""
    exact = _exact(task)
    return {
        "world": task.name,
        "version": VERSION,
        "description": task.description,
        "modalities": {m: _describe(modality) for m, modality in sorted(task.modalities.items())},
        "model": {
            "output": "softmax([-1.5 s, 1.5 s]), s = sum_t strengths[t] * term_t",
            "read": f"detect(p) = p * step((|p| - {QUIET}) / 0.4), "
            "step(t) = t^3 (6 t^2 - 15 t + 10) clipped to [0, 1], p = row . marker; "
            "a bit is its weight times the sum of detect(p) over the units of its modality",
            "operations": {
                "sum": "sum of bits",
                "product": "product of bits",
                "either": "tanh(3 * sum of bits)",
                "gate": "last bit times relu of each other one",
                "flip": "last bit times 1 - 2 relu of each other one",
            },
            "terms": [
                {"op": term.op, "bits": [bit._asdict() for bit in term.bits]}
                for term in exact.terms
            ],
        },
        "modes": [
            mode._asdict() | {"places": [place._asdict() for place in mode.places]}
            for mode in task.declared
        ],
        "noise": getattr(task.sample, "noise", 0.0),
        "target": task.target,
    }


def _describe(modality: Modality) -> dict[str, Any]:
    reference = jax.tree.map(lambda leaf: list(leaf.shape), modality.reference_at(0))
    return {
        "kind": modality.kind,
        "units": modality.units,
        "layout": list(modality.layout),
        "shape": reference,
        "reference": modality.reference_kind,
    }


def _exact(task: Task) -> WorldModel:
    if task.model is None or not isinstance(task.model.fn, WorldModel):
        raise InputError("task", f"{task.name!r} has no exact model", "use an analytic world")
    return task.model.fn


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the discrete arrays (labels, modes, relevance, pairs), in the order of names.

    Unlike that of the file it does not depend on how a processor rounds.
    """
    out = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if not np.issubdtype(array.dtype, np.floating):
            out.update(f"{name} {array.dtype.name} {array.shape}".encode())
            out.update(np.ascontiguousarray(array).tobytes())
    return out.hexdigest()
