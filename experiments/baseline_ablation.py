"""Ablate the image: does the explanation of the note change as the output does?

The first experiment that the summary of Agarwal (2025) asks for, and its eq. 2 across modalities.
Where the image and the text interact, ``I = |v(x) - v(x_-text) - v(x_-image) + v(x_-both)|`` is
large: the text means something else once the image is gone, and an honest explanation of the text
must move. Where they don't interact it must stay. An explanation that never looks at the image
can't do both.

Run:      python -m experiments.baseline_ablation        (about 1 minute on 2 cores)
          python -m experiments.baseline_ablation --quick
Expected: on xor and redundant worlds the exact within-modality Shapley values react on every
          example, one-modality explanations on none; on digits-shortcut removing the image rarely
          changes the output, and an honest explanation of the note stays as it is.
"""

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.subjects import prepare
from mmx_jax import derive_keys
from mmx_jax.desiderata import DEFAULTS, calibrate, value_range
from mmx_jax.desiderata.granger import granger
from mmx_jax.desiderata.measure import Examples, explain_changes, measure_effects

TASKS = ("digits", "digits-shortcut", "xor", "redundant", "unique", "mixed")
EXPLAINERS = ["within-shapley", "shapley", "occlusion", "control-blind", "control-edges"]


def _rows(task: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    """One row per explainer: does the note's explanation follow the image's ablation?"""
    prepared = prepare(task, seed, 48 if quick else 128, 300 if quick else 1000)
    gates, model, targets = prepared.gates, prepared.model, prepared.targets
    text = next(name for name in gates.units if name != "image")
    pair = f"{text}<-image"
    keys = derive_keys(seed, "explain", len(targets))
    examples = Examples(prepared.inputs, targets, keys)
    effects = measure_effects(gates, model, examples, chunk=64)
    spread = value_range(np.asarray(effects.outputs), targets)
    used = np.asarray(effects.effect["image"]) > DEFAULTS.active * spread
    rows = []
    for wanted in EXPLAINERS:
        ((_, explainer),) = prepared.explainers([wanted], quick).items()
        _, moved = explain_changes(gates, model, explainer, examples)
        scale = calibrate(effects, moved).scale
        row = {"task": task, "explainer": wanted, "seed": seed, "image active": float(used.mean())}
        if np.isfinite(scale):
            figures = granger(effects, moved, scale, spread, DEFAULTS)[pair]
            row |= {
                "interacting": figures["active"],
                "violations": _number(figures["violation_rate"]),
                "over-claim": _number(figures["overclaim"]),
                "spearman": _number(figures["spearman"]),
            }
        rows.append(row)
    return rows


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, float) else None


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, column in zip(axes, ("violations", "over-claim"), strict=True):
        for j, wanted in enumerate(EXPLAINERS):
            for i, task in enumerate(TASKS):
                mine = [
                    r[column]
                    for r in rows
                    if r["task"] == task and r["explainer"] == wanted and r.get(column) is not None
                ]
                axis.plot(
                    mine,
                    [i + 0.13 * (j - 2)] * len(mine),
                    "o",
                    ms=4,
                    color=f"C{j}",
                    label=wanted if i == 0 else None,
                )
        axis.set(xlabel=f"{column} of the text's explanation", yticks=range(len(TASKS)))
    axes[0].set_yticklabels(TASKS)
    handles = [plt.Line2D([], [], marker="o", ls="", color=f"C{j}") for j in range(len(EXPLAINERS))]
    figure.legend(handles, EXPLAINERS, loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def experiment(run: Run) -> Outcome:
    """Violations and over-claims of the text's explanation when the image goes."""
    seeds = run.seeds(3)
    rows = [row for seed in seeds for task in TASKS for row in _rows(task, seed, run.quick)]

    def of(task: str, explainer: str, column: str) -> dict[int, float | None]:
        return {
            r["seed"]: r.get(column)
            for r in rows
            if r["task"] == task and r["explainer"] == explainer
        }

    claims = [
        at_most(
            f"{task}: violations of exact Shapley values",
            of(task, "within-shapley", "violations"),
            0.05,
        )
        for task in ("xor", "redundant", "mixed")
    ]
    claims += [
        at_least(
            f"{task}: violations of an explanation blind to the image",
            of(task, "control-blind", "violations"),
            0.5,
        )
        for task in ("xor", "redundant")
    ]
    claims += [
        at_most(
            "unique: over-claim of exact Shapley values",
            of("unique", "within-shapley", "over-claim"),
            0.1,
        ),
        at_least(
            "digits: share of examples on which the image is active",
            of("digits", "occlusion", "image active"),
            0.3,
        ),
        at_most(
            "digits-shortcut: share of examples on which the image is active",
            of("digits-shortcut", "occlusion", "image active"),
            0.2,
        ),
    ]
    return Outcome(claims, {"note<-image": rows}, {"ablation.png": partial(_draw, rows)})


if __name__ == "__main__":
    main("baseline_ablation", __doc__, experiment)
