"""Explanations of pairs on worlds whose interacting pairs are known: who finds them?

On the scale of the log-odds, where sums don't interact, every world declares which units of two
modalities do. Explainers of pairs are judged by the recovery of those (precision at their number,
AUC) and by what keeping or removing the units of the top pairs does.

Run:      python -m experiments.pairs            (about 15 minutes on 2 cores, 5 seeds)
          python -m experiments.pairs --quick    (xor and sarcasm, one seed, about 2 minutes)
Expected: sampled Shapley interactions and second-order gradients find the pairs of every world;
          products of two explanations of units (DIME's interaction part among them) pair what
          matters alone, and fail where several units matter for themselves.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments.common import Outcome, Run, at_least, main
from mmx_jax import FeatureGates, derive_key, derive_keys, map_examples
from mmx_jax.cli.explainers import Setting
from mmx_jax.cli.pairs import PairJudge, pair_explainers
from mmx_jax.explainers import Occlusion, Random
from mmx_jax.interactions import ProductPairs
from mmx_jax.model import LOG_ODDS
from mmx_jax.tasks import WORLDS, Task, draw
from mmx_jax.tasks.packed import packed_task

NAMES = ("xor", "gated", "mixed", "redundant", "sarcasm", "mixed3", "parity3", "tabular-graphs")
QUICK = ("xor", "sarcasm")
FINDERS = ("sampled Shapley interactions", "second-order gradients")


def explainers(task: Task, seed: int, quick: bool) -> dict[str, Any]:
    """Explainers of pairs by name, a control among them."""
    background = draw(task.sample, derive_key(seed, "background"), 8).inputs
    setting = Setting(task.modalities, background, task.model, None, quick, seed)  # pyright: ignore
    return pair_explainers(setting) | {
        "products of occlusion": ProductPairs(Occlusion(task.modalities)),
        "control: products of random scores": ProductPairs(Random(task.modalities)),
    }


def rows_of(name: str, seed: int, quick: bool) -> list[dict[str, Any]]:
    """One row per explainer of pairs, over the examples that have interacting pairs."""
    alike = [WORLDS[other](seed) for other in (QUICK if quick else NAMES)]
    task = packed_task(WORLDS[name](seed), alike)
    count = 12 if quick else 48
    batch = draw(task.sample, derive_key(seed, "pairs"), count)
    model: Any = dataclasses.replace(task.model, link=LOG_ODDS)  # pyright: ignore
    keys = derive_keys(seed, "pairs", count)
    has = np.any([np.any(t, axis=(1, 2)) for t in batch.truth["pairs"].values()], axis=0)
    spread = float(np.ptp(np.asarray(map_examples(model, batch.inputs))[:, 1]))
    rows = []
    for kind, explainer in explainers(task, seed, quick).items():
        _, found, kept = map_examples(
            PairJudge(explainer, FeatureGates(task.modalities)),
            model,
            jax.tree.map(np.asarray, batch.inputs),
            np.ones(count, np.int32),
            batch.truth["pairs"],
            np.full(count, spread, np.float32),
            keys,
            in_axes=(None, 0, 0, 0, 0, 0),
            chunk=4,
        )
        rows.append(
            {"world": name, "explainer": kind, "seed": seed, "examples": int(has.sum())}
            | {"precision": float(np.mean(found.precision[has]))}
            | {"AUC": float(np.mean(found.auc[has]))}
            | {"sufficiency error": float(np.mean(kept.sufficiency_error[has]))}
            | {"necessity": float(np.mean(np.abs(kept.necessity[has])))}
            | {"calls": int(explainer.evaluations)}
        )
    return rows


def experiment(run: Run) -> Outcome:
    """Judges all explainers of pairs over the seeds."""
    seeds = run.seeds(1 if run.quick else 5)
    worlds = QUICK if run.quick else NAMES
    rows = [row for name in worlds for seed in seeds for row in rows_of(name, seed, run.quick)]
    claims, means = [], []
    for name in worlds:
        for kind in dict.fromkeys(row["explainer"] for row in rows):
            mine = {r["seed"]: r for r in rows if (r["world"], r["explainer"]) == (name, kind)}
            columns = ("precision", "AUC", "sufficiency error", "necessity", "calls")
            average = {c: float(np.mean([r[c] for r in mine.values()])) for c in columns}
            means.append({"world": name, "explainer": kind} | average)
            if kind in FINDERS:
                auc = {seed: r["AUC"] for seed, r in mine.items()}
                claims.append(at_least(f"{name}: AUC of {kind}", auc, 0.98))
    return Outcome(claims, {"pairs": means}, details=rows)


if __name__ == "__main__":
    main("pairs", __doc__, experiment)
