"""Change the image without changing the output: how far does the explanation of the note move?

The second experiment that the summary of Agarwal (2025) asks for, and its eqs. 6 and 7 at finite
distance. Brightness, contrast, small noise and a shift by one patch are applied to the image; only
changes that keep the predicted class and move the explained output by at most 2 % of its range
count. The change of each modality's scores is then relative to the mean size of all scores, after
the action of the change on the units (a shifted image has shifted patches) is undone.

Run:      python -m experiments.semantic_stability          (under 2 minutes on 2 cores)
          python -m experiments.semantic_stability --quick  (two worlds, about 30 s)
Expected: the note's Shapley values move by about one per cent, the image's saliency by more.
          Scores of the note drawn at random don't move at all, because keys are held: stability
          alone proves nothing.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from experiments.common import Outcome, Run, at_least, at_most, by_seed, main
from experiments.figures import dots
from experiments.subjects import Prepared, explain, prepare, sweep
from mmx_jax import derive_keys, map_examples
from mmx_jax.desiderata import DEFAULTS, value_range

TASKS = ("digits", "unique", "mixed")
QUICK = ("unique", "mixed")
EXPLAINERS = ["saliency", "integrated-gradients", "occlusion", "shapley", "control-random"]


def _moves(task: Any, inputs: Any, key: Any) -> Any:
    """Per semantic move of the image: the changed inputs, and where each unit went."""
    image = task.modalities["image"]
    out = {}
    for i, move in enumerate(image.moves):
        data, position = move(jax.random.fold_in(key, i), inputs["image"], image.units)
        out[move.name] = (inputs | {"image": data}, position)
    return out


def _distance(a: Any, b: Any) -> np.ndarray:
    return np.abs(a - b).sum(-1)


def _rows(task: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    """One row per explainer: the shift of every modality's scores under output-invariant moves."""
    prepared = prepare(task, seed, 32 if quick else 64, 400)
    keys = derive_keys(seed, "moves", len(prepared.targets))
    moves = map_examples(Partial(_moves, prepared.task), prepared.inputs, keys)
    spread = value_range(
        map_examples(prepared.model, prepared.calibration), np.unique(prepared.targets)
    )
    before = map_examples(prepared.model, prepared.inputs)
    kept = {name: _kept(prepared, before, moved, spread) for name, (moved, _) in moves.items()}

    def row(wanted: str) -> dict[str, Any]:
        ((_, explainer),) = prepared.explainers([wanted], quick).items()
        intact = explain(prepared, explainer)
        # of all modalities together: one that is not used has scores of about zero
        size = sum(np.abs(s).sum(-1).mean() for s in intact.values())
        shifts: dict[str, list[np.ndarray]] = {name: [] for name in intact}
        for name, (moved, position) in moves.items():
            scores = explain(prepared, explainer, moved)
            back = np.take_along_axis(scores["image"], position, 1)
            for m, after in (scores | {"image": back}).items():
                relative = _distance(after, intact[m]) / size
                shifts[m].append(relative[kept[name]])
        out: dict[str, Any] = {"task": task, "explainer": wanted, "seed": seed}
        out["moves that keep the output"] = int(sum(k.sum() for k in kept.values()))
        for m, parts in shifts.items():
            together = np.concatenate(parts)
            label = "image" if m == "image" else "note"
            out[label] = float(np.mean(together)) if together.size else None
            out[f"{label} p95"] = float(np.quantile(together, 0.95)) if together.size else None
        return out

    return [row(wanted) for wanted in EXPLAINERS]


def _kept(prepared: Prepared, before: Any, moved: Any, spread: float) -> np.ndarray:
    """On which examples a move keeps the class and the explained output."""
    after = map_examples(prepared.model, moved)
    index = np.arange(len(before)), prepared.targets
    same = np.argmax(after, -1) == np.argmax(before, -1)
    return same & (np.abs(after[index] - before[index]) <= DEFAULTS.kept * spread)


def experiment(run: Run) -> Outcome:
    """Shifts of the explanations of both modalities when only the image changes."""
    seeds, tasks = run.seeds(3), QUICK if run.quick else TASKS
    rows = sweep(partial(_rows, quick=run.quick), tasks, seeds)
    claims = []
    for task in tasks:
        found = by_seed(rows, "note", task=task, explainer="shapley")
        claims.append(at_most(f"{task}: mean shift of the note's Shapley values", found, 0.1))
        random = by_seed(rows, "note", task=task, explainer="control-random")
        claims.append(
            at_most(f"{task}: mean shift of scores drawn at random, key held", random, 0.01)
        )
        saliency = by_seed(rows, "image", task=task, explainer="saliency")
        gap = {
            s: None if a is None or found[s] is None else a - found[s] for s, a in saliency.items()
        }
        claims.append(
            at_least(f"{task}: shift of saliency of the image beyond the note's Shapley", gap, 0.0)
        )
    label = "relative shift of scores"
    draw = partial(dots, rows=rows, kinds=("image", "note"), label=label, symlog=True)
    return Outcome(claims, {"shifts": rows}, {"shifts.png": draw})


if __name__ == "__main__":
    main("semantic_stability", __doc__, experiment)
