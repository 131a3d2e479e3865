"""Handwritten digits with a written note, and a model that never looks at the image.

A transformer is trained on each task, an explainer is learned on the transformer, and both it and
native explainers get the scorecard of the audit on fresh examples. On digits-shortcut the note
names the digit in training, so that the model reads the note alone: the explanation must follow
it. Every seed splits the images anew.

Run:      python -m experiments.learn.digits
          python -m experiments.learn.digits --task digits-shortcut
Expected: experiments/learn/README.md. 6 minutes a seed on one core.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.learn.common import POOL, made_with
from experiments.resumable import WorkDirectory
from mmx_jax import explainers as ex
from mmx_jax.cli.console import Terminal
from mmx_jax.cli.pipeline import Plan, audit
from mmx_jax.cli.subject import Source, open_subject
from mmx_jax.learn import Recipe, Settings, fit
from mmx_jax.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Which task, how long."""

    task: Literal["digits", "digits-shortcut"] = "digits"
    """Whether the notes of the training examples always name the digit."""
    steps: int = 1000
    """Of training the explainer."""
    count: int = 3
    """Seeds."""
    rows: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Keeps the rows of each seed there: a run that was stopped goes on behind them."""


def of_seed(options: Options, seed: int) -> dict[str, Any]:
    """The scorecards of all explainers on one seed, and what is known of the model."""
    terminal = Terminal()
    source = Source(options.task, None, None, None, "own", seed, 48, 256, options.quick)
    subject = open_subject(source, terminal)
    started = time.monotonic()
    fitted = fit(
        subject.model,
        subject.modalities,
        TASKS[options.task](seed).sample_training,
        subject.calibration,
        subject.calibration_targets,
        Recipe(
            pool=256 if options.quick else POOL,
            faithful_thinning=4,
            settings=Settings(
                steps=100 if options.quick else options.steps, target="predicted", seed=seed
            ),
        ),
    )
    took = time.monotonic() - started
    m = subject.modalities
    explainers: dict[str, Any] = {
        "learned": fitted.best,
        "occlusion": ex.Occlusion(m),
        "within-shapley": ex.PermutationShapley(m, pairs=8, within=True),
        "rescaled-occlusion": ex.Rescaled(m, ex.Occlusion(m)),
        "uniform mass": ex.UniformMass(m),
    }
    plan = Plan(seed, None, None, 0 if options.quick else 8, frozenset({"learned", "occlusion"}))
    results, _, _ = audit(subject, explainers, plan, terminal)
    image = []
    for i in range(len(subject.evaluation_targets)):
        example = {n: np.asarray(x[i]) for n, x in subject.evaluation.items()}
        scores = fitted.best(None, example, subject.evaluation_targets[i])
        sizes = {n: float(np.abs(np.asarray(s)).sum()) for n, s in scores.items()}
        image.append(sizes["image"] / max(sum(sizes.values()), 1e-9))
    kept = ("calibration", "granger", "sufficiency", "necessity", "own_set", "stability", "verdict")
    cards = {n: {k: card[k] for k in kept} for n, card in results["explainers"].items()}
    for card in cards.values():
        pairs = card["granger"].items()
        card["granger"] = {
            pair: {k: v for k, v in row.items() if k != "frontier"} for pair, row in pairs
        }
    return {
        "explainers": cards,
        "accuracy": subject.accuracy,
        "share_of_image": float(np.mean(image)),
        "seconds_of_training": round(took, 1),
    }


def experiment(options: Options) -> Outcome:
    """Scores every seed."""
    seeds = options.seeds(1 if options.quick else options.count)
    fixed = ("quick", "task", "steps")
    kept = (
        None
        if options.rows is None
        else WorkDirectory(options.rows, {n: getattr(options, n) for n in fixed})
    )
    found: dict[int, dict[str, Any]] = {}
    for seed in seeds:
        name = f"{seed}.json"
        if kept is not None and kept.has(name):
            found[seed] = kept.read(name)
            continue
        found[seed] = of_seed(options, seed)
        if kept is not None:
            kept.write(name, found[seed])
    claims, table = [], []
    for desideratum in ("granger", "faithfulness", "stability"):
        passed = {
            seed: float(row["explainers"]["learned"]["verdict"][desideratum] != "fail")
            for seed, row in found.items()
        }
        claims.append(at_least(f"learned: {desideratum} does not fail", passed, 1))
    if options.task == "digits-shortcut":
        share = {seed: row["share_of_image"] for seed, row in found.items()}
        claims.append(at_most("share of the explanation on the unread image", share, 0.05))
    for seed, row in found.items():
        for name, card in row["explainers"].items():
            table.append({"seed": seed, "explainer": name} | card["verdict"])
    details = [{"seed": seed} | row for seed, row in found.items()]
    return Outcome(claims, {options.task: table}, details=[*details, made_with("digits", options)])


if __name__ == "__main__":
    main("learn.digits", __doc__, experiment, Options, quickly=False)
