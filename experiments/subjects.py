"""Models and examples that the experiments look at, and what they share in measuring them."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.cell import trained
from experiments.common import watch
from mmx_jax import FeatureGates, derive_key, derive_keys, map_examples
from mmx_jax.cli.explainers import Setting, build
from mmx_jax.desiderata.measure import Examples
from mmx_jax.tasks import TASKS, Task, draw
from mmx_jax.threads import stream
from mmx_jax.typing import Explainer, Inputs, Model

__all__ = ["Prepared", "explain", "prepare", "sweep"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A task with its exact or trained model, and held-out examples.

    Attributes:
      task: the task.
      model: its exact model, or a fusion transformer trained on it with softmax outputs.
      inputs: of the judged examples.
      labels: what is right.
      modes: the mode of each example, an index into ``task.modes``.
      targets: the output that is explained: the predicted one, or the task's own.
      calibration: other examples, for ranges and backgrounds.
      seed: of everything.
    """

    task: Task
    model: Model
    inputs: Inputs
    labels: np.ndarray
    modes: np.ndarray
    targets: np.ndarray
    calibration: Inputs
    seed: int

    @property
    def gates(self) -> FeatureGates:
        """The intervention on the features of the task's modalities."""
        return FeatureGates(self.task.modalities)

    def judging(self) -> Examples:
        """The judged examples with their targets and keys."""
        keys = derive_keys(self.seed, "explain", len(self.targets))
        return Examples(self.inputs, self.targets, keys)

    def calibrating(self, count: int = 64) -> Examples:
        """The first ``count`` of the calibration split, explained as the judged ones are."""
        inputs = jax.tree.map(lambda x: x[:count], self.calibration)
        predicted = np.argmax(map_examples(self.model, inputs), -1).astype(np.int32)
        fixed = self.task.target
        targets = predicted if fixed is None else np.full_like(predicted, fixed)
        return Examples(inputs, targets, derive_keys(self.seed, "calibration", len(targets)))

    def explainers(self, names: list[str], quick: bool = False) -> dict[str, Explainer]:
        """Explainers by their names on the command line, by the name they are reported under."""
        setting = Setting(
            self.task.modalities,
            self.calibration,
            self.model,
            self.task.reference,
            quick,
            self.seed,
        )
        return build(names, setting, False)


def prepare(name: str, seed: int, examples: int, steps: int = 1000) -> Prepared:
    """Draws the task of a seed, trains a model on it where it has none, and draws examples."""
    task = TASKS[name](seed)
    model: Any = task.model
    if model is None:
        model, _ = trained(task, seed, steps)
    batch = draw(task.sample, derive_key(seed, "experiment"), examples)
    calibration = draw(task.sample, derive_key(seed, "calibration"), 64)
    predicted = np.argmax(map_examples(model, batch.inputs), -1).astype(np.int32)
    targets = predicted if task.target is None else np.full_like(predicted, task.target)
    return Prepared(
        task,
        model,
        jax.tree.map(np.asarray, batch.inputs),
        np.asarray(batch.labels),
        np.asarray(batch.truth["mode"]),
        targets,
        jax.tree.map(np.asarray, calibration.inputs),
        seed,
    )


def explain(prepared: Prepared, explainer: Explainer, inputs: Inputs | None = None) -> Any:
    """Scores of all examples ``{m: [examples, units]}``; counterfactuals get the same keys."""
    keys = derive_keys(prepared.seed, "explain", len(prepared.targets))
    inputs = prepared.inputs if inputs is None else inputs
    axes = (None, 0, 0, 0)
    return map_examples(explainer, prepared.model, inputs, prepared.targets, keys, in_axes=axes)


def sweep(
    rows: Callable[[str, int], list[dict[str, Any]]], tasks: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """``rows(task, seed)`` of all tasks and seeds, tasks side by side.

    The first seed goes ahead: it compiles the programs that the other seeds share.
    """
    out: list[dict[str, Any]] = []
    for some in (seeds[:1], seeds[1:]):
        work = {f"{t} {s}": partial(rows, t, s) for s in some for t in tasks}
        for _, found in watch(stream(work), f"{len(some)} of {len(seeds)} seeds", len(work)):
            out += found
    return out
