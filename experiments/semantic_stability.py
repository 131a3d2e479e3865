"""Change the image without changing the output: how far does the explanation of the note move?

The second experiment that the summary of Agarwal (2025) asks for, and its eqs. 6 and 7 at finite
distance. Brightness, contrast, small noise and a shift by one patch are applied to the image; only
changes that keep the predicted class and move the explained output by at most 2 % of its range
count. The change of each modality's scores is then relative to their mean size over all examples,
after the action of the change on the units (a shifted image has shifted patches) is undone.

Run:      python -m experiments.semantic_stability
          python -m experiments.semantic_stability --quick
Expected: the note's Shapley values move by a few per cent, the image's saliency by more. Scores
          drawn at random don't move at all, because keys are held: stability alone proves
          nothing. Takes about 1 minute on 2 cores.
"""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from experiments.common import Outcome, Run, at_least, at_most, by_seed, main
from experiments.figures import dots
from experiments.subjects import Prepared, explain, prepare
from mmx_jax import derive_keys, map_examples
from mmx_jax.desiderata import DEFAULTS, value_range

TASKS = ("digits", "unique", "mixed")
QUICK = ("digits", "unique")
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
    prepared = prepare(task, seed, 32 if quick else 96, 300 if quick else 1000)
    keys = derive_keys(seed, "moves", len(prepared.targets))
    moves = map_examples(Partial(_moves, prepared.task), prepared.inputs, keys)
    spread = value_range(
        map_examples(prepared.model, prepared.calibration), np.unique(prepared.targets)
    )
    before = map_examples(prepared.model, prepared.inputs)
    kept = {name: _kept(prepared, before, moved, spread) for name, (moved, _) in moves.items()}
    rows = []
    for wanted in EXPLAINERS:
        ((_, explainer),) = prepared.explainers([wanted], quick).items()
        intact = explain(prepared, explainer)
        shifts: dict[str, list[np.ndarray]] = {name: [] for name in intact}
        for name, (moved, position) in moves.items():
            scores = explain(prepared, explainer, moved)
            back = np.take_along_axis(scores["image"], position, 1)
            for m, after in (scores | {"image": back}).items():
                size = np.abs(intact[m]).sum(-1).mean()
                relative = _distance(after, intact[m]) / max(size, 1e-12)  # 0 where both are
                shifts[m].append(relative[kept[name]])
        row: dict[str, Any] = {"task": task, "explainer": wanted, "seed": seed}
        row["moves that keep the output"] = int(sum(k.sum() for k in kept.values()))
        for m, parts in shifts.items():
            together = np.concatenate(parts)
            label = "image" if m == "image" else "note"
            row[label] = float(np.mean(together)) if together.size else None
            row[f"{label} p95"] = float(np.quantile(together, 0.95)) if together.size else None
        rows.append(row)
    return rows


def _kept(prepared: Prepared, before: Any, moved: Any, spread: float) -> np.ndarray:
    """On which examples a move keeps the class and the explained output."""
    after = map_examples(prepared.model, moved)
    index = np.arange(len(before)), prepared.targets
    same = np.argmax(after, -1) == np.argmax(before, -1)
    return same & (np.abs(after[index] - before[index]) <= DEFAULTS.kept * spread)


def experiment(run: Run) -> Outcome:
    """Shifts of the explanations of both modalities when only the image changes."""
    seeds, tasks = run.seeds(3), QUICK if run.quick else TASKS
    rows = [row for seed in seeds for task in tasks for row in _rows(task, seed, run.quick)]
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
