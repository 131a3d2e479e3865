"""One cell of a table of worlds and explainers: everything measured of one explainer on one world.

The leaderboard and the experiment on worlds share it. Models and explainers are passed as pytrees,
so seeds, and worlds over the same modalities, share their compiled programs.
"""

import dataclasses
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from experiments.beside import beside_truth, explain, measures_of_others
from mmx_jax import FeatureGates, derive_key, derive_keys
from mmx_jax.cli.explainers import Setting, build
from mmx_jax.desiderata import calibrate, scorecard, value_range
from mmx_jax.desiderata.measure import (
    Examples,
    StabilityPlan,
    explain_changes,
    measure,
    measure_effects,
    radii,
)
from mmx_jax.desiderata.truth import leaves_open
from mmx_jax.mapping import Progress
from mmx_jax.models import FusionTransformer, Incomplete, split, train
from mmx_jax.tasks import Task, draw
from mmx_jax.typing import Explainer, Model

__all__ = ["VERDICTS", "Bench", "Effort", "bench", "fails", "judge", "row_of", "trained"]

VERDICTS = ("granger", "faithfulness", "stability")


@dataclasses.dataclass(frozen=True)
class Effort:
    """How thoroughly a cell is measured.

    Attributes:
      examples: judged.
      calibration: examples that calibrate.
      stability: examples that carry stability.
      rounds: of hill climbing.
      point: whether Jacobians are computed.
      quick: explainers take a quarter of their samples.
      steps: of training a model.
    """

    examples: int = 48
    calibration: int = 48
    stability: int = 8
    rounds: int = 4
    point: bool = True
    quick: bool = False
    steps: int = 1000


@dataclasses.dataclass(frozen=True)
class Bench:
    """A model on a world, with what all explainers are judged on.

    Attributes:
      task: the world.
      model: exact or trained.
      exact: whether the model is the world's own, so that its reference is the truth.
      seed: of the world and everything drawn.
      judged, calibration: the two splits.
      truth: of the judged examples.
      effects, calibration_effects: of the model.
      spread: the range R.
      effort: how thoroughly.
      mesh: devices.
    """

    task: Task
    model: Model
    exact: bool
    seed: int
    judged: Examples
    calibration: Examples
    truth: dict[str, Any]
    effects: Any
    calibration_effects: Any
    spread: float
    effort: Effort
    mesh: Mesh | None = None

    def explainers(self, names: list[str]) -> dict[str, Explainer]:
        """Explainers by their names on the command line, by the name they are reported under."""
        known = self.task.reference if self.exact else None
        inputs = self.calibration.inputs
        setting = Setting(
            self.task.modalities, inputs, self.model, known, self.effort.quick, self.seed
        )
        return build(names, setting, False)


def trained(task: Task, seed: int, steps: int, incomplete: bool = False) -> tuple[Model, float]:
    """A fusion transformer trained on a world's labels, and its accuracy on held-out examples.

    Args:
      task: an analytic world.
      seed: of weights and data.
      steps: of training.
      incomplete: whether units of the training examples are removed at random.
    """
    sample = task.sample_training
    if incomplete:
        sample = Incomplete(FeatureGates(task.modalities), sample)
    held_out = draw(task.sample, derive_key(seed, "held out"), 256)
    net = FusionTransformer(task.modalities, task.outputs, rngs=nnx.Rngs(seed))
    data = (held_out.inputs, held_out.labels)
    net, history = train(net, sample, data, steps=steps, seed=seed)
    return split(net, "softmax"), float(history.accuracy[-1])


def bench(
    task: Task,
    seed: int,
    effort: Effort,
    model: Model | None = None,
    mesh: Mesh | None = None,
) -> Bench:
    """Draws the splits of a world and measures the model on them.

    Args:
      task: an analytic world.
      seed: of the examples and keys.
      effort: how many of them.
      model: a trained one; the exact one if None.
      mesh: devices.
    """
    gates = FeatureGates(task.modalities)
    judging: Any = task.model if model is None else model

    def examples(purpose: str, count: int) -> tuple[Examples, dict[str, Any]]:
        batch = draw(task.sample, derive_key(seed, purpose), count)
        targets = np.full(count, task.target, np.int32)
        return Examples(batch.inputs, targets, derive_keys(seed, purpose, count)), batch.truth

    calibration, _ = examples("calibration", effort.calibration)
    judged, truth = examples("evaluation", effort.examples)
    effects = [
        measure_effects(gates, judging, part, chunk=16, mesh=mesh) for part in (calibration, judged)
    ]
    spread = value_range(np.asarray(effects[0].outputs), calibration.targets)
    return Bench(
        task,
        judging,
        model is None,
        seed,
        judged,
        calibration,
        truth,
        effects[1],
        effects[0],
        spread,
        effort,
        mesh,
    )


def judge(
    bench: Bench, name: str, explainer: Explainer, progress: Progress | None = None
) -> dict[str, Any]:
    """The scorecard of one explainer, with the measures of others under ``others``.

    The reference explanation takes part in the joint test, the recovery and the measures of others
    with its joint form, exact Shapley values over all units, unless they leave the truth open
    (:func:`joint_form`).
    """
    gates, effort = FeatureGates(bench.task.modalities), bench.effort
    settings: dict[str, Any] = {"mesh": bench.mesh, "progress": progress}
    joint = joint_form(bench, explainer) if name == "truth" else None
    _, changed = explain_changes(gates, bench.model, explainer, bench.calibration, **settings)
    calibration = calibrate(bench.calibration_effects, changed)
    plan = StabilityPlan(effort.stability, rounds=effort.rounds, point=effort.point)
    measured, intact = measure(
        gates,
        bench.model,
        explainer,
        bench.judged,
        joint=joint,
        stability=plan if effort.stability else None,
        radius=radii(bench.calibration.inputs),
        relevant=bench.truth["relevant"],
        **settings,
    )
    card = scorecard(bench.effects, measured, calibration, bench.spread)
    together = intact if joint is None else explain(joint, bench.model, bench.judged, bench.mesh)
    card["others"] = measures_of_others(
        bench.model, gates, bench.judged, together, calibration.scale, bench.spread, bench.mesh
    )
    if bench.exact:
        reference: Any = bench.task.reference
        truth = explain(reference, bench.model, bench.judged, bench.mesh)
        card["others"] |= beside_truth(intact, truth, calibration.scale)
    return card


def joint_form(bench: Bench, reference: Any) -> Any:
    """The reference over all units, or None where that leaves the truth open."""
    joint = dataclasses.replace(reference, joint=True)
    scores = explain(joint, bench.model, bench.judged, bench.mesh)
    known = ~np.asarray(bench.truth["set_only"])
    open_ = leaves_open(scores, bench.truth["relevant"], known, bench.spread)
    return None if open_ else joint


def _largest(stability: Any, kind: str) -> float | None:
    """Over all pairs of modalities."""
    rows = stability.values() if isinstance(stability, dict) else ()
    return max((row[kind] for row in rows if row.get(kind) is not None), default=None)


def fails(row: dict[str, Any]) -> int:
    """How many of the three verdicts are "fail"."""
    return sum(row[v] == "fail" for v in VERDICTS)


def row_of(card: dict[str, Any]) -> dict[str, Any]:
    """The columns of a table: the worst pair or modality of each measure."""
    granger = card["granger"]
    cross = [p for p in granger if p.split("<-")[0] != p.split("<-")[1]]
    diagonal = [p for p in granger if p not in cross]

    def worst(pairs: list[str], column: str) -> float | None:
        values = [granger[p][column] for p in pairs if granger[p][column] is not None]
        return max(values) if values else None

    truth = card["truth"] if isinstance(card["truth"], dict) else {}
    single = [c["own"] for m, c in card["necessity"].items() if m != "joint"]
    known = [own for own in single if own is not None]
    return {
        **{v: card["verdict"][v] for v in VERDICTS},
        "violations": worst(diagonal, "violation_rate"),
        "cross violations": worst(cross, "violation_rate"),
        "over-claim": worst(diagonal, "overclaim"),
        "cross over-claim": worst(cross, "overclaim"),
        "unit over-claim": worst(cross, "unit_overclaim"),
        "joint necessity": card["necessity"]["joint"]["own"],
        "single necessity": float(np.mean(known)) if known else None,
        "joint sufficiency holds": card["sufficiency"]["joint"]["holds"],
        "own set": card["own_set"]["joint"],
        "tpr": truth.get("tpr"),
        "fdr": truth.get("fdr"),
        "rank correlation": truth.get("rank_correlation"),
        "redundant": max(card["redundant"].values()),
        "slope in a ball": _largest(card["stability"], "searched"),
        "slope on paths": _largest(card["stability"], "path"),
        **card["others"],
        "calls": card["evaluations"],
        "why": "; ".join(w for v in VERDICTS for w in card["why"][v])[:300],
    }
