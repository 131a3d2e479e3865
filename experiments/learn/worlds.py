"""Learned explainers on analytic worlds, beside every native baseline, rescaling, and the cheats.

Every seed redraws the world: markers, strengths, positions. An explainer is trained on it for 700
steps and judged on held-out examples, under the reference of training and under one it never saw.
The scores that it returns are what is judged in every column. Baselines are judged on the first
seed.

Run:      python -m experiments.learn.worlds
          python -m experiments.learn.worlds --task mixed3
          python -m experiments.learn.worlds --certifiable 3
          python -m experiments.learn.worlds --quick
Expected: the claims of the mixed world hold on every seed; Shapley + rescale passes the same
          Granger columns at 2 + 16 pairs of orders of model calls, the learned one at none.
"""

import dataclasses
import platform
from typing import Annotated, Any, Literal

import flax
import jax
import numpy as np
import optax
import tyro

from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.learn.judge import Bench, Scaled, bench, judge
from mmx_jax import derive_key
from mmx_jax import explainers as ex
from mmx_jax.learn import NetworkSettings, Recipe, Settings, fit
from mmx_jax.tasks import TASKS

SEEDS = 3

Claims = tuple[tuple[str, str, str, float], ...]

MIXED: Claims = (
    ("alpha*", "granger_known_reference.alpha", ">=", 0.85),
    ("5 % quantile of alpha", "granger_known_reference.a05", ">=", 0.92),
    ("over-claim", "granger_known_reference.over", "<=", 0.03),
    ("cross alpha*", "granger_known_reference.cross_alpha", ">=", 0.75),
    ("cross over-claim", "granger_known_reference.cross_over", "<=", 0.05),
    ("alpha*, unseen reference", "granger_unseen_reference.alpha", ">=", 0.85),
    ("over-claim, unseen reference", "granger_unseen_reference.over", "<=", 0.03),
    ("sufficiency error at true k", "sufficiency_error", "<=", 0.01),
    ("necessity share at true k", "necessity_share", ">=", 0.95),
    ("TPR", "tpr", ">=", 0.98),
    ("TPR, not redundant", "tpr_other", ">=", 0.99),
    ("FDR", "fdr", "<=", 0.02),
    ("path maximum", "stability.path_max", "<=", 1.6),
    ("local L (p95) over the model's", "stability.point_ratio", "<=", 1.25),
)
GATED: Claims = (
    ("TPR", "tpr", ">=", 0.98),
    ("FDR", "fdr", "<=", 0.02),
    ("alpha*", "granger_known_reference.alpha", ">=", 0.82),
)
CERTIFIED: Claims = (
    ("global certificate, calibrated", "certificate", "<=", 3.0),
    ("alpha*", "granger_known_reference.alpha", ">=", 0.80),
    ("TPR", "tpr", ">=", 0.98),
)
CLAIMS = {"mixed": MIXED, "mixed3": MIXED, "gated": GATED}


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Which world, which network, how long."""

    task: Literal["mixed", "mixed3", "gated"] = "mixed"
    """An analytic world."""
    steps: int = 700
    """Of training."""
    certifiable: Annotated[float | None, tyro.conf.arg(metavar="L")] = None
    """A network whose slope is certified to be at most L."""
    baselines: bool = True
    """Judge the baselines too."""


def baselines(task: Any, learned: Any) -> dict[str, Any]:
    """Every mandatory baseline and cheat, by name."""
    m = task.modalities
    gradients, shapley = ex.IntegratedGradients(m, steps=50), ex.PermutationShapley(m, pairs=16)
    return {
        "learned times 100": Scaled(learned),
        "cheat: learned, per-input normalised": ex.PerInputNormalised(learned),
        "cheat: uniform mass": ex.UniformMass(m),
        "cheat: reference detector": ex.ReferenceDetector(m),
        "saliency": ex.Saliency(m),
        "occlusion": ex.Occlusion(m),
        "integrated gradients": gradients,
        "integrated gradients + rescale": ex.Rescaled(m, gradients),
        "shapley": shapley,
        "shapley + rescale": ex.Rescaled(m, shapley),
        "truth": task.reference,
    }


def train_and_judge(options: Options, seed: int) -> tuple[dict[str, Any], Any, Bench]:
    """The row of the explainer learned on one world, the explainer, and what judged it."""
    task = TASKS[options.task](seed)
    assert task.model is not None
    assert task.target is not None
    judged = bench(task, task.model, seed)
    held = task.sample(derive_key(seed, "held out"), 256)
    certified = options.certifiable is not None
    network = NetworkSettings(
        kind="certifiable" if certified else "free", lipschitz=options.certifiable or 3.0
    )
    steps = 300 if options.quick else options.steps
    trained = fit(
        task.model,
        task.modalities,
        task.sample_training,
        held.inputs,
        np.full(256, task.target, np.int32),
        Recipe(network=network, settings=Settings(steps=steps, target="fixed", seed=seed)),
    )
    row = judge(judged, trained.best)
    slope = row["stability"]
    slope["point_ratio"] = slope["point_p95"] / slope["model_point_p95"]
    if certified:
        bounds = trained.best.network().certificate()  # pyright: ignore
        # after calibration, as every other slope
        row["certificate"] = float(bounds["all"]) * row["calibration"]
    return row, trained.best, judged


def experiment(options: Options) -> Outcome:
    """Trains and judges on every seed."""
    seeds = options.seeds(1 if options.quick else SEEDS)
    rows, others = {}, {}
    for seed in seeds:
        rows[seed], learned, judged = train_and_judge(options, seed)
        if options.baselines and seed == seeds[0]:
            for name, explainer in baselines(judged.task, learned).items():
                # hill climbing with hundreds of calls an explanation takes too long
                cheap = explainer.evaluations <= 128
                others[name] = judge(judged, explainer, 24 if cheap else 0)
    claims = []
    for text, path, sign, threshold in CERTIFIED if options.certifiable else CLAIMS[options.task]:
        make = at_least if sign == ">=" else at_most
        claims.append(make(text, {s: read(row, path) for s, row in rows.items()}, threshold))
    table = [{"explainer": f"learned, seed {s}"} | short(row) for s, row in rows.items()]
    table += [{"explainer": name} | short(row) for name, row in others.items()]
    details = [{"explainer": "learned", "seed": seed} | row for seed, row in rows.items()]
    details += [{"explainer": name, "seed": seeds[0]} | row for name, row in others.items()]
    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
    }
    details.append({"versions": versions})
    return Outcome(claims, {options.task: table}, details=details)


def read(row: dict[str, Any], path: str) -> Any:
    """An entry by its dotted path, None where it was not measured."""
    for part in path.split("."):
        if part not in row:
            return None
        row = row[part]
    return row


def short(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit on a screen."""
    columns = {
        "alpha*": "granger_known_reference.alpha",
        "over": "granger_known_reference.over",
        "cross alpha*": "granger_known_reference.cross_alpha",
        "unseen alpha*": "granger_unseen_reference.alpha",
        "necessity": "necessity_share",
        "TPR": "tpr",
        "FDR": "fdr",
        "local p95": "stability.point_p95",
        "path max": "stability.path_max",
        "calls": "model_calls",
    }
    return {name: read(row, path) for name, path in columns.items()}


if __name__ == "__main__":
    main("learn.worlds", __doc__, experiment, Options)
