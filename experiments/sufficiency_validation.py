"""Mask all that is not highlighted: does the accuracy hold, and collapse in the opposite case?

The third experiment that the summary of Agarwal (2025) asks for. For every explainer the units of
all modalities are ranked together. A budget of a quarter of them is kept, everything else replaced
by its reference, and the accuracy is compared with the intact one (sufficiency, eq. 4); then the
same units are removed instead (necessity, eq. 5). As many random units are the yardstick.

Run:      python -m experiments.sufficiency_validation        (under 2 minutes on 2 cores)
          python -m experiments.sufficiency_validation --quick  (two worlds, about 30 s)
Expected: on the analytic worlds the exact Shapley values keep all of the accuracy and removing
          them leaves chance. On digits they keep more than random units do, but a quarter of the
          units is too little for the network: the claim that it keeps the accuracy fails.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import Outcome, Run, at_least, at_most, by_seed, main
from experiments.figures import dots
from experiments.subjects import Prepared, explain, prepare, sweep
from mmx_jax import derive_keys, map_examples
from mmx_jax.gates import joint

TASKS = ("digits", "mixed", "xor")
QUICK = ("mixed", "xor")
RANDOM = "control-random"
EXPLAINERS = ["saliency", "integrated-gradients", "occlusion", "shapley", RANDOM]
BUDGET = 0.25


def _outputs(gates: Any, model: Any, inputs: Any, scores: Any, key: Any) -> Any:
    """The outputs with the top quarter of all units kept, and with it removed."""
    kept = joint(scores, round(BUDGET * sum(gates.units.values())), key)
    removed = jax.tree.map(jnp.logical_not, kept)
    return gates(model, inputs, kept), gates(model, inputs, removed)


def _accuracies(prepared: Prepared, scores: Any) -> dict[str, float]:
    keys = derive_keys(prepared.seed, "ties", len(prepared.labels))
    batches = (prepared.gates, prepared.model, prepared.inputs, scores, keys)
    both = map_examples(_outputs, *batches, in_axes=(None, None, 0, 0, 0))
    right = [float(np.mean(np.argmax(out, -1) == prepared.labels)) for out in both]
    return {"kept": right[0], "removed": right[1]}


def _rows(task: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    prepared = prepare(task, seed, 64 if quick else 256, 300 if quick else 600)
    intact = float(
        np.mean(np.argmax(map_examples(prepared.model, prepared.inputs), -1) == prepared.labels)
    )

    def row(wanted: str) -> dict[str, Any]:
        ((_, explainer),) = prepared.explainers([wanted], quick).items()
        found = _accuracies(prepared, explain(prepared, explainer))
        return {"task": task, "explainer": wanted, "seed": seed, "intact": intact, **found}

    return [row(wanted) for wanted in EXPLAINERS]


def experiment(run: Run) -> Outcome:
    """Accuracies per task, explainer and seed, and what they show."""
    seeds, tasks = run.seeds(3), QUICK if run.quick else TASKS
    rows = sweep(partial(_rows, quick=run.quick), tasks, seeds)
    for r in rows:
        r["lost"] = r["intact"] - r["kept"]
    claims = []
    for task in tasks:
        limit = 0.1 if task == "digits" else 0.02
        lost = by_seed(rows, "lost", task=task, explainer="shapley")
        claims.append(at_most(f"{task}: accuracy lost by keeping Shapley's quarter", lost, limit))
        if task != "digits":
            left = by_seed(rows, "removed", task=task, explainer="shapley")
            claims.append(at_most(f"{task}: accuracy without Shapley's quarter", left, 0.6))
        for column, sign, what in (("kept", 1, "keeps"), ("removed", -1, "costs if removed,")):
            mine = by_seed(rows, column, task=task, explainer="shapley")
            random = by_seed(rows, column, task=task, explainer=RANDOM)
            lead = {seed: sign * (mine[seed] - random[seed]) for seed in mine}
            claims.append(
                at_least(f"{task}: accuracy that Shapley's quarter {what} beyond random", lead, 0.2)
            )
    draw = partial(dots, rows=rows, kinds=("kept", "removed"), label="accuracy", line="intact")
    return Outcome(claims, {"accuracy": rows}, {"accuracy.png": draw})


if __name__ == "__main__":
    main("sufficiency_validation", __doc__, experiment)
