"""``mmx export``: writes a world with its truth as arrays that any framework can read."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from mmx_jax.cli.console import Terminal
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.interactions import pid
from mmx_jax.runs import check_output, free_name, result_directory, write_json
from mmx_jax.tasks import WORLDS, Task, identify
from mmx_jax.tasks.observed import joint_of_sources
from mmx_jax.tasks.release import (
    SEED,
    SPLITS,
    VERSION,
    declaration,
    digest,
    parameters,
    split_arrays,
)

__all__ = ["Export"]

Count = Annotated[int, tyro.conf.arg(metavar="INT")]


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a world whose truth is known: examples, truth, exact model, checksums, datasheet.

    The directory holds train.npz, validation.npz, test.npz, model.npz, world.json, DATASHEET.md and
    SHA256SUMS (check them with sha256sum -c). With the defaults it is the released version: the
    same command writes the same bytes.

    Attributes:
      world: Its name, for example mixed, sarcasm or tabular-graphs: any task that mmx audit --help
        lists but the digits, whose truth is not known.
      out: A directory that is absent or empty; by default a new one beside you.
      seed: Of the world's parameters and its examples.
      train: Examples to train on.
      validation: Examples to choose by.
      test: Examples to report.
    """

    world: tyro.conf.Positional[str]
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    seed: Count = SEED
    train: Count = SPLITS["train"]
    validation: Count = SPLITS["validation"]
    test: Count = SPLITS["test"]

    def run(self) -> None:
        """Draws the splits and writes the directory."""
        if self.world not in WORLDS:
            raise UnknownNameError("world", self.world, WORLDS)
        out = free_name(f"mmx-{self.world}-{VERSION}") if self.out is None else self.out
        check_output(out)
        counts = {"train": self.train, "validation": self.validation, "test": self.test}
        for split, count in counts.items():
            if count < 1:
                raise InputError(split, f"is {count}", "use a positive number of examples")
        terminal = Terminal()
        with terminal.stage(f"checking {self.world}"):
            task = WORLDS[self.world](self.seed)
            checked = identify(task, self.seed)
        splits = {}
        for split, count in counts.items():
            with terminal.stage(f"drawing {split}"):
                splits[split] = split_arrays(task, split, count, self.seed)
        facts = declaration(task) | {
            "seed": self.seed,
            "released": self.seed == SEED and counts == SPLITS,
            "examples": counts,
            "recoverable": checked._asdict(),
            "information": _information(task),
            "digests": {split: digest(arrays) for split, arrays in splits.items()},
        }
        with result_directory(out) as directory:
            for split, arrays in splits.items():
                np.savez(directory / f"{split}.npz", **arrays)  # pyright: ignore[reportArgumentType]
            np.savez(directory / "model.npz", **parameters(task))  # pyright: ignore[reportArgumentType]
            write_json(directory / "world.json", facts)
            sheet = _datasheet(task, facts, splits["test"])
            (directory / "DATASHEET.md").write_text(sheet, encoding="utf-8")
            sums = [
                f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
                for file in sorted(directory.iterdir())
            ]
            (directory / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
        Console().print(f"{sum(counts.values())} examples of {self.world} are in {out}")


_SHEET = """# {name}, version {version}

{about}

**Purpose.** To test explanations of multimodal models where the true contribution of every modality
and unit is known. It is synthetic and describes nobody.

**Examples.** {counts}; seed {seed}, {state}. Labels are flipped at a rate of {noise:g}. On the test
split the exact model is right on {right:.1%} and the Bayes-optimal prediction on {best:.1%}.

| modality | units | kind | shape |
|---|---|---|---|
{parts}

A unit that is removed becomes zero.

| kind of example | share | truth |
|---|---|---|
{kinds}

Where a set is the truth any copy would do; every copy is marked relevant.

**Information about the label (BROJA, bits).** {told}.

**Arrays** of train.npz, validation.npz and test.npz; model.npz and world.json hold the exact model:
markers, strengths and terms. Units are in reading order (an image's patches row by row).

{arrays}

- `outputs`: the exact model's probabilities of the classes; what follows is about class {target}.
- `games/values`: that probability where only some modalities are there: bit m of the column says
  that the m-th of them, in alphabetical order, is. `games/moebius` and `games/shapley/NAME` are its
  Moebius coefficients and Shapley values, which add up to what all modalities change.
- `contributions/NAME`: exact Shapley values of the units of one modality while all others are
  there. They add up to what removing this modality changes, so over modalities that interact they
  add up to more, or less, than all change together.
- `relevant/NAME`: the units that matter, every copy of them; `set_only`: whether only a set of them
  is the truth; `pairs/A*B`: the units of two modalities that interact on the scale of log-odds.
- `mode`: the kind of example, counted from 0 in the order above; `optimal`: the Bayes-optimal
  probability of class 1.

In world.json `digests` are of the arrays, whatever file they are in; those of the files are in
SHA256SUMS. The `sign` of a place says what its marker carries: `y` the label, `-y` its opposite, a
letter a random bit, `+` and `-` always the same.

**How the truth was checked.** Relevant units and interacting pairs were found again by playing all
coalitions of the units that the exact model reads.

**Known limits.**

{limits}
"""

LARGEST = 20_000
"""Cells of a joint distribution that is decomposed; beyond it takes minutes."""


def _information(task: Task) -> dict[str, Any] | None:
    """Partial information of the clean label, in bits, where there are two modalities."""
    names = sorted(task.modalities)
    joint = joint_of_sources(task.declared, names[0])
    if len(names) != 2 or joint.size > LARGEST:
        return None
    return {"first": names[0], "second": names[1]} | pid(joint)._asdict()


def _datasheet(task: Task, facts: dict[str, Any], test: dict[str, np.ndarray]) -> str:
    """What the field asks of a data set: why, what, how, and where it ends."""
    right = float(np.mean(test["outputs"].argmax(-1) == test["labels"]))
    best = float(np.mean((test["optimal"] > 0.5) == test["labels"]))
    parts = [
        f"| {m} | {about['units']} | {about['kind']} | {about['shape']} |"
        for m, about in facts["modalities"].items()
    ]
    modes = [
        f"| {mode['name']} | {mode['weight']:.3g} | {'a set' if mode['set_only'] else 'units'} |"
        for mode in facts["modes"]
    ]
    told = facts["information"]
    information = "not decomposed (it takes two modalities and a small table)"
    if told:
        information = (
            f"redundancy {told['redundancy']:.3f}, {told['first']} alone {told['unique1']:.3f}, "
            f"{told['second']} alone {told['unique2']:.3f}, synergy {told['synergy']:.3f}"
        )
    limits = facts["recoverable"]["reasons"] or ["none found"]
    counts = ", ".join(f"{n} {split}" for split, n in facts["examples"].items())
    arrays = [f"- `{name}` {list(a.shape)} {a.dtype}" for name, a in sorted(test.items())]
    return _SHEET.format(
        **facts,
        name=task.name,
        about=task.description,
        counts=counts,
        state="the released version" if facts["released"] else "not the released version",
        right=right,
        best=best,
        parts="\n".join(parts),
        kinds="\n".join(modes),
        told=information,
        arrays="\n".join(arrays),
        limits="\n".join(f"- {reason}" for reason in limits),
    )
