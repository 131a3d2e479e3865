"""What a command works on: a task or the user's own model, with examples and targets."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from mmx_jax.checks import check_inputs
from mmx_jax.cli.console import Terminal
from mmx_jax.cli.own import first_example, first_line, load_data, load_model
from mmx_jax.cli.references import REFERENCES, with_reference
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.mapping import map_examples
from mmx_jax.modality import Modality
from mmx_jax.model import as_model, check_model, check_target, link_of
from mmx_jax.models import FusionTransformer, accuracy, split, train
from mmx_jax.numerics import derive_key
from mmx_jax.tasks import TASKS, Task, draw
from mmx_jax.typing import Explainer, Inputs, Model

__all__ = [
    "Check",
    "Source",
    "Subject",
    "open_subject",
    "targets_of",
    "with_reference",
]

Check = Callable[[dict[str, Modality], Inputs, Explainer | None], Any]

CALIBRATION = 1 / 3
"""The share of a user's examples that calibrates."""


@dataclasses.dataclass(frozen=True)
class Source:
    """What a person asked to look at.

    Attributes:
      task: the name of a task, unless there is a ``model``.
      model: ``file.py:build``, or None.
      data: an ``npz`` file for the model, or None.
      link: ``identity``, ``softmax`` or ``log-odds``; None for the default.
      reference: one of :data:`~mmx_jax.cli.references.REFERENCES`.
      seed: of data, training and explanations.
      examples: how many are judged; None for all of a user's.
      calibration: how many calibrate, for a task.
      quick: train for fewer steps.
    """

    task: str
    model: str | None
    data: Path | None
    link: str | None
    reference: str
    seed: int
    examples: int | None
    calibration: int
    quick: bool

    def __post_init__(self) -> None:
        """Raises where the seed can't be used."""
        if not 0 <= self.seed < 2**63:
            raise InputError("seed", f"is {self.seed}", "use a whole number from 0 to 2^63 - 1")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model with examples to explain.

    Attributes:
      name: of the task, or the user's file.
      kind: what the model is, in words.
      model: from inputs to outputs, after the link.
      modalities: by name.
      calibration: examples that fix the range and the calibration.
      evaluation: examples that are judged.
      target_names: a word per output.
      accuracy: of a trained model on fresh examples, or None.
      labels: a remark per judged example, or empty.
      truth: what is known of the judged examples, or None.
      reference: the explainer that returns the truth, or None.
    """

    name: str
    kind: str
    model: Model
    modalities: dict[str, Modality]
    calibration: Inputs
    evaluation: Inputs
    calibration_targets: np.ndarray
    evaluation_targets: np.ndarray
    target_names: tuple[str, ...]
    accuracy: float | None = None
    labels: tuple[str, ...] = ()
    truth: dict[str, Any] | None = None
    reference: Explainer | None = None

    @property
    def link(self) -> str:
        """The name of the model's link."""
        return link_of(self.model)


def open_subject(
    source: Source, terminal: Terminal, check: Check = lambda *_: None, whole: bool = False
) -> Subject:
    """Loads or trains the model, draws or reads the examples, and checks everything once.

    Args:
      source: what was asked for.
      terminal: shows the progress.
      check: called with the modalities, calibration examples and the known truth (or None) before
        any time is spent on training.
      whole: every row of a user's data is kept as an example, whatever calibrates.

    Raises:
      InputError: see the functions it calls; every message is one line for the terminal.
    """
    if source.reference not in REFERENCES:
        raise UnknownNameError("reference", source.reference, REFERENCES)
    if source.examples is not None and source.examples < 1:
        raise InputError("examples", f"is {source.examples}", "use a positive number")
    if source.model is None:
        if source.data is not None:
            raise InputError("data", "is given without a model", "add --model file.py:build")
        if source.task not in TASKS:
            raise UnknownNameError("task", source.task, TASKS)
        return _of_task(source, terminal, check)
    if source.data is None:
        raise InputError("model", "is given without data", "add --data file.npz")
    return _of_file(source, source.model, source.data, terminal, check, whole)


def _of_task(source: Source, terminal: Terminal, check: Check) -> Subject:
    task = TASKS[source.task](source.seed)
    model, kind, right = task.model, "exact", None
    count = source.examples or 1
    calibration = draw(task.sample, derive_key(source.seed, "calibration"), source.calibration)
    evaluation = draw(task.sample, derive_key(source.seed, "evaluation"), count)
    modalities = with_reference(task.modalities, source.reference, calibration.inputs, source.seed)
    known = task.reference if source.reference == "own" else None
    check(modalities, calibration.inputs, known)
    if model is None:
        model, right = _trained(task, source, terminal)
        kind = f"fusion transformer, trained here on {task.name}"
    elif source.link:
        model = as_model(model, source.link)
    inputs = tuple(jax.tree.map(np.asarray, b.inputs) for b in (calibration, evaluation))
    _check(model, modalities, inputs[1], None)
    return Subject(
        name=task.name,
        kind=kind,
        model=model,
        modalities=modalities,
        calibration=inputs[0],
        evaluation=inputs[1],
        calibration_targets=targets_of(model, inputs[0], task.target),
        evaluation_targets=targets_of(model, inputs[1], task.target),
        target_names=task.target_names,
        accuracy=right,
        labels=_remarks(task, evaluation),
        truth={k: jax.tree.map(np.asarray, v) for k, v in evaluation.truth.items()},
        reference=known,
    )


def _trained(task: Task, source: Source, terminal: Terminal) -> tuple[Model, float]:
    """A small fusion transformer on the task, and its accuracy on fresh examples."""
    steps = 300 if source.quick else 1000
    held_out = draw(task.sample, derive_key(source.seed, "held out"), 512)
    net = FusionTransformer(task.modalities, task.outputs, rngs=nnx.Rngs(source.seed))
    with terminal.stage(f"training a model on {task.name}") as advance:

        def progress(done: int, total: int, loss: float, hits: float) -> None:
            del loss, hits
            advance(done, total, 0.0)

        trained, _ = train(
            net,
            task.sample_training,
            (held_out.inputs, held_out.labels),
            steps=steps,
            seed=source.seed,
            progress=progress,
        )
    model = split(trained, source.link or "softmax")  # pyright: ignore[reportArgumentType]
    return model, accuracy(model, held_out.inputs, held_out.labels)


def _remarks(task: Task, batch: Any) -> tuple[str, ...]:
    """What is known of each example, in words."""
    labels, modes = np.asarray(batch.labels), np.asarray(batch.truth["mode"])
    names = task.target_names
    known = [names[i] if 0 <= i < len(names) else str(i) for i in labels.tolist()]
    return tuple(f"label {k}; {task.modes[m]}" for k, m in zip(known, modes.tolist(), strict=True))


def _of_file(
    source: Source, spec: str, data: Path, terminal: Terminal, check: Check, whole: bool
) -> Subject:
    with terminal.stage("loading the model and the data"):
        model, modalities = load_model(spec, source.link)
        inputs, target = load_data(data, modalities)
        count = len(jax.tree.leaves(inputs)[0])
        _check(model, modalities, inputs, target)
        first, rest = _shares(count, source, whole)
        parts = [jax.tree.map(lambda x, r=rows: x[r], inputs) for rows in (first, rest)]
        modalities = with_reference(modalities, source.reference, parts[0], source.seed)
        check(modalities, parts[0], None)
        targets = targets_of(model, inputs, None) if target is None else target
    outputs = int(jax.eval_shape(model, first_example(inputs)).shape[0])  # pyright: ignore
    return Subject(
        name=Path(spec.partition(".py:")[0]).stem,
        kind=spec,
        model=model,
        modalities=modalities,
        calibration=parts[0],
        evaluation=parts[1],
        calibration_targets=targets[first],
        evaluation_targets=targets[rest],
        target_names=tuple(f"output {i}" for i in range(outputs)),
        labels=tuple(f"row {i} of {data.name}" for i in rest.tolist()),
    )


def _shares(count: int, source: Source, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which rows calibrate, and which are judged."""
    if whole:
        return np.arange(count), np.arange(count)
    held = max(2, round(CALIBRATION * count))
    if count - held < 2:
        raise InputError(
            "data", f"holds {count} examples", "give at least 4: some calibrate, some are judged"
        )
    order = np.random.default_rng(source.seed).permutation(count)
    first, rest = order[:held], np.sort(order[held:])
    wanted = len(rest) if source.examples is None else source.examples
    if wanted > len(rest):
        raise InputError(
            "examples",
            f"is {wanted}, and {len(rest)} are left of {count} after calibration",
            "ask for fewer or give more data",
        )
    return first, rest[:wanted]


def _check(
    model: Model, modalities: dict[str, Modality], inputs: Inputs, target: np.ndarray | None
) -> None:
    check_inputs(modalities, inputs, batched=True)
    example = first_example(inputs)
    try:
        outputs = check_model(model, example)
    except InputError:
        raise
    except Exception as error:
        untraceable = isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError)
        raise InputError(
            "model",
            f"raises {type(error).__name__} on the first example: {first_line(error)}",
            "write it in jax.numpy, which can be traced"
            if untraceable
            else "let it take the inputs of one example, without a batch axis",
        ) from error
    if target is not None:
        check_target(target, outputs)


def targets_of(model: Model, inputs: Inputs, fixed: int | None) -> np.ndarray:
    """The output to be explained: a fixed one, or the largest on the intact input.

    Raises:
      InputError: NaN or infinite outputs.
    """
    outputs = map_examples(model, inputs)
    broken = ~np.isfinite(outputs).all(axis=-1)
    if broken.any():
        raise InputError(
            "model",
            f"returns NaN or infinite outputs on {int(broken.sum())} of {len(broken)} examples",
            "check its weights and inputs",
        )
    best = np.argmax(outputs, -1).astype(np.int32)
    return best if fixed is None else np.full_like(best, fixed)
