"""Stability against faithfulness: what steadier explanations cost, and the trap of local ones.

The same training on the mixed world with the weights of the stability losses multiplied by 0 up to
30, and once with the penalty on the Jacobian at the data alone. Each point is measured on held-out
data: alpha, faithful share, local slope, finite radius, and the maximum along paths.

Run:      python -m experiments.learn.pareto
Expected: local slopes fall twentyfold and path maxima by a tenth, at no cost in alpha* or recovery;
          the penalty on the Jacobian alone lowers the local slope as far, and not the path maximum.
          15 minutes on one core.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.common import Outcome, Run, at_least, main
from experiments.learn.common import made_with
from experiments.learn.judge import bench, judge, learn
from experiments.resumable import WorkDirectory
from mmx_jax.learn import DESIDERATA_WEIGHTS, Recipe, Settings, weighed
from mmx_jax.tasks import mixed

STEADY = ("jacobian", "ball", "path")
ARMS = {
    "0": dict.fromkeys(STEADY, 0.0),
    "0.3": dict.fromkeys(STEADY, 0.3),
    "1": dict.fromkeys(STEADY, 1.0),
    "10": dict.fromkeys(STEADY, 10.0),
    "30": dict.fromkeys(STEADY, 30.0),
    "jacobian alone": {"jacobian": 30.0, "ball": 0.0, "path": 0.0},
}
"""By what each stability loss's weight is multiplied."""


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """How long."""

    steps: int = 1000
    """Of training each point."""
    rows: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Keeps each point there: a run that was stopped goes on behind them."""


def point(options: Options, seed: int, factors: dict[str, float]) -> dict[str, Any]:
    """One training and its row."""
    task = mixed(seed)
    assert task.model is not None
    weights = tuple((n, w * factors.get(n, 1.0)) for n, w in DESIDERATA_WEIGHTS)
    fitted = learn(
        task,
        task.model,
        seed,
        Recipe(
            balance=weighed(weights),
            slope=0.5,
            settings=Settings(
                steps=100 if options.quick else options.steps, target="fixed", seed=seed
            ),
        ),
    )
    row = judge(bench(task, task.model, seed), fitted.last)
    measured = fitted.history[-1]["measured"]
    return {
        "alpha a05": measured["a05"],
        "alpha*": row["granger_known_reference"]["alpha"],
        "faithful": measured["faithful"],
        "TPR": row["tpr"],
        "local p95": row["stability"]["point_p95"],
        "finite p95": row["stability"]["searched_p95"],
        "path max": row["stability"]["path_max"],
    }


def experiment(options: Options) -> Outcome:
    """Trains every point on one seed."""
    (seed,) = options.seeds(1)
    settings = {"quick": options.quick, "steps": options.steps, "seed": seed}
    kept = None if options.rows is None else WorkDirectory(options.rows, settings)
    rows: dict[str, dict[str, Any]] = {}
    for name, factors in ARMS.items():
        file = f"{name.replace(' ', '-')}.json"
        if kept is not None and kept.has(file):
            rows[name] = kept.read(file)
            continue
        rows[name] = point(options, seed, factors)
        if kept is not None:
            kept.write(file, rows[name])
    free, trap, steady = rows["0"], rows["jacobian alone"], rows["10"]
    claims = [
        at_least(
            "jacobian alone: path maximum over local slope, relative to no penalty",
            {seed: trap["path max"] / trap["local p95"] / (free["path max"] / free["local p95"])},
            1.0,
        ),
        at_least(
            "largest slope without penalty over that at weight 10",
            {
                seed: max(free["local p95"], free["path max"])
                / max(steady["local p95"], steady["path max"])
            },
            1.0,
        ),
    ]
    table = [{"weight of stability": name} | row for name, row in rows.items()]
    return Outcome(claims, {"pareto": table}, details=[made_with("pareto", options)])


if __name__ == "__main__":
    main("learn.pareto", __doc__, experiment, Options, quickly=False)
