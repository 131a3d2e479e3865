"""Mask all that is not highlighted: does the accuracy hold, and collapse in the opposite case?

The third experiment that the summary of Agarwal (2025) asks for. For every explainer the units of
all modalities are ranked together. A budget of a quarter of them is kept, everything else replaced
by its reference, and the accuracy is compared with the intact one (sufficiency, eq. 4); then the
same units are removed instead (necessity, eq. 5). As many random units are the yardstick.

Run:      python -m experiments.sufficiency_validation        (about 1 minute on 2 cores)
          python -m experiments.sufficiency_validation --quick
Expected: on the analytic worlds the exact Shapley values keep all of the accuracy and removing
          them leaves chance; on digits every Shapley method keeps more than random units do.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.subjects import Prepared, explain, prepare
from mmx_jax import derive_keys, map_examples
from mmx_jax.gates import joint

TASKS = ("digits", "mixed", "xor")
EXPLAINERS = ["saliency", "integrated-gradients", "occlusion", "shapley", "control-random"]
BUDGET = 0.25


def _accuracies(prepared: Prepared, scores: Any) -> dict[str, float]:
    """Accuracy with the top quarter of all units kept, and with it removed."""
    gates = prepared.gates
    budget = round(BUDGET * sum(gates.units.values()))

    def outputs(model: Any, inputs: Any, scores: Any, key: Any) -> Any:
        kept = joint(scores, budget, key)
        removed = jax.tree.map(jnp.logical_not, kept)
        return gates(model, inputs, kept), gates(model, inputs, removed)

    keys = derive_keys(prepared.seed, "ties", len(prepared.labels))
    axes = (None, 0, 0, 0)
    both = map_examples(outputs, prepared.model, prepared.inputs, scores, keys, in_axes=axes)
    right = [float(np.mean(np.argmax(out, -1) == prepared.labels)) for out in both]
    return {"kept": right[0], "removed": right[1]}


def _rows(task: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    prepared = prepare(task, seed, 64 if quick else 256, 300 if quick else 1000)
    intact = float(
        np.mean(np.argmax(map_examples(prepared.model, prepared.inputs), -1) == prepared.labels)
    )
    rows = []
    for wanted in EXPLAINERS:
        ((_, explainer),) = prepared.explainers([wanted], quick).items()
        found = _accuracies(prepared, explain(prepared, explainer))
        rows.append({"task": task, "explainer": wanted, "seed": seed, "intact": intact, **found})
    return rows


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(1, len(TASKS), figsize=(10, 3.2), sharey=True, layout="constrained")
    for axis, task in zip(axes, TASKS, strict=True):
        for i, wanted in enumerate(EXPLAINERS):
            mine = [r for r in rows if r["task"] == task and r["explainer"] == wanted]
            for kind, colour in (("kept", "#1f6f8b"), ("removed", "#c8553d")):
                axis.plot(
                    [r[kind] for r in mine],
                    [i] * len(mine),
                    "o",
                    color=colour,
                    alpha=0.7,
                    label=kind,
                )
        axis.axvline(np.mean([r["intact"] for r in rows if r["task"] == task]), color="0.6", lw=1)
        axis.set(title=task, xlabel="accuracy", xlim=(0, 1.03), yticks=range(len(EXPLAINERS)))
    axes[0].set_yticklabels(EXPLAINERS)
    axes[0].legend(*(part[:2] for part in axes[0].get_legend_handles_labels()), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def experiment(run: Run) -> Outcome:
    """Accuracies per task, explainer and seed, and what they show."""
    seeds = run.seeds(3)
    rows = [row for seed in seeds for task in TASKS for row in _rows(task, seed, run.quick)]

    def per_seed(task: str, explainer: str, what: Any) -> dict[int, Any]:
        return {
            r["seed"]: what(r) for r in rows if r["task"] == task and r["explainer"] == explainer
        }

    def lost(r: dict[str, Any]) -> float:
        return r["intact"] - r["kept"]

    claims = []
    for task in ("mixed", "xor"):
        claims += [
            at_most(
                f"{task}: accuracy lost by keeping Shapley's quarter",
                per_seed(task, "shapley", lost),
                0.02,
            ),
            at_most(
                f"{task}: accuracy without Shapley's quarter",
                per_seed(task, "shapley", lambda r: r["removed"]),
                0.6,
            ),
        ]
    digits = per_seed("digits", "shapley", lambda r: r)
    random = per_seed("digits", "control-random", lambda r: r)
    gain = {s: digits[s]["kept"] - random[s]["kept"] for s in seeds}
    harm = {s: random[s]["removed"] - digits[s]["removed"] for s in seeds}
    claims += [
        at_most(
            "digits: accuracy lost by keeping Shapley's quarter",
            per_seed("digits", "shapley", lost),
            0.1,
        ),
        at_least("digits: accuracy Shapley's quarter keeps beyond random units", gain, 0.2),
        at_least("digits: accuracy lost with Shapley's quarter beyond random units", harm, 0.2),
    ]
    return Outcome(claims, {"accuracy": rows}, {"accuracy.png": partial(_draw, rows)})


if __name__ == "__main__":
    main("sufficiency_validation", __doc__, experiment)
