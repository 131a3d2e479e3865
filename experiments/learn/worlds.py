"""Learned explainers on worlds of known truth, beside native baselines, rescaling, and the cheats.

Every seed redraws the world: markers, strengths, positions. An explainer is trained on its exact
model, or on a transformer that was trained on its labels (``masked``: with units removed at random,
so that it has learned what to say without them), and judged on held-out examples, under the
reference of training and under one it never saw. The scores that it returns are what is judged
in every column. Baselines are judged on the first seed.

Run:      python -m experiments.learn.worlds
          python -m experiments.learn.worlds --task gated
          python -m experiments.learn.worlds --task mixed3
          python -m experiments.learn.worlds --task unused
          python -m experiments.learn.worlds --task targets
          python -m experiments.learn.worlds --model masked
          python -m experiments.learn.worlds --model transformer
          python -m experiments.learn.worlds --certifiable 3
          python -m experiments.learn.worlds --quick
Expected: experiments/learn/README.md. Shapley + rescale passes the same Granger columns at 2 + 16
          pairs of orders of model calls, the learned explainer at none.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.cell import trained
from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.learn.claims import CERTIFIED, CLAIMS, TRANSFORMER, Claims
from experiments.learn.common import POOL, made_with
from experiments.learn.judge import Bench, Scaled, bench, judge, learn, steadiness
from experiments.learn.targets import targets
from experiments.learn.unused import claimed, unused
from experiments.resumable import WorkDirectory
from mmx_jax import explainers as ex
from mmx_jax.cli.explainers import METHODS, Setting
from mmx_jax.learn import DESIDERATA_WEIGHTS, NetworkSettings, Recipe, Settings, weighed
from mmx_jax.tasks import TASKS, Task
from mmx_jax.typing import Model

SLOPE, PATH_SLOPE = 0.01, 2.0
"""Of the explanation of a transformer, of R per unit of the data: around the data, where it is flat
itself, and between them, where the explanation must change by as much as influence demands."""

STEADY = 10.0
"""So many times the usual weight have the losses around the data of a transformer."""

STEPS = {"mixed3": 2500, "unused": 2500, "targets": 2500, "masked": 3000}
"""Of training where 1000 don't do: redundant copies were missed or falsely named on some seeds,
and explanations of a masked transformer were steeper."""

MODEL_STEPS = {"transformer": 800, "masked": 3000}
"""Of training the transformer."""
TRANSFORMED: dict[str, Any] = {
    # a network is too costly to be asked anew in every step
    "pool": POOL,
    "faithful_thinning": 4,
    "slope": SLOPE,
    "path_slope": PATH_SLOPE,
    "balance": weighed(
        tuple((n, w * (STEADY if n in ("ball", "jacobian") else 1)) for n, w in DESIDERATA_WEIGHTS)
    ),
}

WORLDS = TASKS | {"targets": targets, "unused": unused}


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Which world, which model, which network, how long."""

    task: Literal["mixed", "mixed3", "unused", "gated", "targets"] = "mixed"
    """A world of known truth."""
    model: Literal["exact", "transformer", "masked"] = "exact"
    """What is explained: the world's own function, or a network trained on its labels."""
    steps: int | None = None
    """Of training; by default 1000, or 2500 to 3000 where that was not enough."""
    certifiable: Annotated[float | None, tyro.conf.arg(metavar="L")] = None
    """A network whose slope is certified to be at most L."""
    baselines: bool = True
    """Judge the baselines too."""
    count: int = 3
    """Seeds."""
    rows: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Keeps the row of each seed there: a run that was stopped goes on behind them."""

    @property
    def length(self) -> int:
        """Steps of training."""
        usual = 300 if self.quick else STEPS.get(self.task, STEPS.get(self.model, 1000))
        return usual if self.steps is None else self.steps

    def claims(self) -> Claims:
        """What is expected of the row."""
        if self.certifiable is not None:
            return CERTIFIED
        return CLAIMS[self.task] if self.model == "exact" else TRANSFORMER


def baselines(judged: Bench, learned: Any) -> dict[str, Any]:
    """Every method of the package, two of them rescaled, the cheats and the truth, by name."""
    m = judged.task.modalities
    setting = Setting(m, judged.calibrating.inputs, judged.model)
    natives = {n.replace("-", " "): make(m, setting) for n, make in METHODS.items()}
    natives["integrated gradients"] = ex.IntegratedGradients(m, steps=50)
    rescaled = ("integrated gradients", "shapley")
    return (
        {
            "learned times 100": Scaled(learned),
            "cheat: learned, per-input normalised": ex.PerInputNormalised(learned),
            "cheat: uniform mass": ex.UniformMass(m),
            "cheat: reference detector": ex.ReferenceDetector(m),
        }
        | natives
        | {f"{name} + rescale": ex.Rescaled(m, natives[name]) for name in rescaled}
        | {"truth": judged.task.reference}
    )


def explained(options: Options, seed: int) -> tuple[Task, Model, float | None]:
    """The task of a seed, the model that is explained, and its accuracy where it was trained."""
    task = WORLDS[options.task](seed)
    if options.model == "exact":
        assert task.model is not None
        return task, task.model, None
    steps = MODEL_STEPS[options.model]
    model, accuracy = trained(task, seed, steps, incomplete=options.model == "masked")
    return task, model, accuracy


def train(options: Options, seed: int, task: Task, model: Model) -> tuple[Any, dict[str, Any]]:
    """The explainer, and what its training took; its run is kept beside the rows."""
    certified = options.certifiable is not None
    network = NetworkSettings(
        kind="certifiable" if certified else "free", lipschitz=options.certifiable or 3.0
    )
    target = "random" if task.target is None else "fixed"
    started = time.process_time()
    folder = None if options.rows is None else options.rows / f"run-{seed}"
    fitted = learn(
        task,
        model,
        seed,
        Recipe(
            network=network,
            **({} if options.model == "exact" else TRANSFORMED),
            settings=Settings(steps=options.length, target=target, seed=seed),
        ),
        directory=folder,
        resume=folder is not None and (folder / "config.json").exists(),
    )
    best = max(fitted.history, key=lambda row: row["measured"]["quality"])
    took = {"cpu_seconds": round(time.process_time() - started, 1), "best_step": best["step"]}
    return fitted.best, took


def train_and_judge(options: Options, seed: int) -> dict[str, Any]:
    """The row of the explainer learned on one world."""
    task, model, accuracy = explained(options, seed)
    learned, took = train(options, seed, task, model)
    judged = bench(task, model, seed)
    row = judge(judged, learned) | took
    if options.task == "unused":
        row["unused"] = claimed(judged, learned, row["calibration"])
    if options.certifiable is not None:
        bounds = learned.network().certificate()
        # after calibration, as every other slope
        scale = row["calibration"]
        row["certificate"] = None if scale is None else float(bounds["all"]) * scale
    if accuracy is not None:
        row["accuracy"] = accuracy
        best = ex.Rescaled(task.modalities, ex.PermutationShapley(task.modalities, pairs=16))
        row["shapley_rescaled"] = steadiness(judged, best, 8)
        mine, theirs = (r["searched_p95"] for r in (row["stability"], row["shapley_rescaled"]))
        row["over_shapley"] = mine / theirs if mine is not None and theirs else None
    return row


def experiment(options: Options) -> Outcome:
    """Trains and judges on every seed, then judges the baselines on the first."""
    seeds = options.seeds(1 if options.quick else options.count)
    apart = ("out", "rows", "seed", "count", "baselines")
    settings = {k: v for k, v in vars(options).items() if k not in apart} | recipe_of(options)
    kept = None if options.rows is None else WorkDirectory(options.rows, settings)

    def row_of(name: str, make: Callable[[], Any]) -> Any:
        if kept is not None and kept.has(name):
            return kept.read(name)
        row = make()
        if kept is not None:
            kept.write(name, row)
        return row

    rows, others = {}, {}
    for seed in seeds:
        rows[seed] = row_of(f"{seed}.json", lambda seed=seed: train_and_judge(options, seed))
    if options.baselines:
        first = seeds[0]
        task, model, _ = explained(options, first)
        learned, _ = train(options, first, task, model)
        judged = bench(task, model, first)
        for name, explainer in baselines(judged, learned).items():
            # hill climbing with hundreds of calls an explanation takes too long
            count = 24 if explainer.evaluations <= 64 else 0
            file = f"{first}-{name.replace(' ', '-')}.json"
            others[name] = row_of(file, lambda e=explainer, n=count: judge(judged, e, n))
    claims = []
    for text, path, sign, threshold in options.claims():
        make = at_least if sign == ">=" else at_most
        claims.append(make(text, {s: read(row, path) for s, row in rows.items()}, threshold))
    table = [{"explainer": f"learned, seed {s}"} | short(row) for s, row in rows.items()]
    table += [{"explainer": name} | short(row) for name, row in others.items()]
    details = [{"explainer": "learned", "seed": seed} | row for seed, row in rows.items()]
    details += [{"explainer": name, "seed": seeds[0]} | row for name, row in others.items()]
    made = made_with("worlds", options) | recipe_of(options)
    return Outcome(claims, {options.task: table}, details=[*details, made])


def recipe_of(options: Options) -> dict[str, Any]:
    """What decides a row beside the options."""
    if options.model == "exact":
        return {"steps": options.length}
    steps = MODEL_STEPS[options.model]
    slopes = {"slope": SLOPE, "path_slope": PATH_SLOPE, "steady": STEADY}
    return {"steps": options.length, "model_steps": steps} | slopes


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
        "finite p95": "stability.searched_p95",
        "path max": "stability.path_max",
        "calls": "model_calls",
    }
    return {name: read(row, path) for name, path in columns.items()}


if __name__ == "__main__":
    main("learn.worlds", __doc__, experiment, Options, quickly=False)
