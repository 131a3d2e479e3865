"""The columns of the tables: Granger at two references, faithfulness, recovery, stability."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mmx_jax as mmx
from mmx_jax.desiderata import (
    Examples,
    StabilityPlan,
    calibrate,
    explain_changes,
    measure,
    measure_effects,
    value_range,
)
from mmx_jax.desiderata.perturb import Probe
from mmx_jax.learn import HeldOut, Recipe, Trained, fit, hold_out
from mmx_jax.modality import Modality
from mmx_jax.tasks import Task, draw
from mmx_jax.typing import Explainer, Model

GRANGER = ("alpha", "a05", "over", "cross_alpha", "cross_a05", "cross_over")


@dataclasses.dataclass(frozen=True)
class Bench:
    """Everything of a task and model that all explainers are judged on.

    Attributes:
      known: the first examples, with what the model says of them under the task's reference.
      unseen: the same under a reference that no explainer was trained with.
      judged: the examples of the full tests.
      effects: of the model on them.
      calibrating, calibrating_effects: the calibration split.
      relevant, modes: the truth of the judged examples.
      redundant: which modes hold one copy per modality.
    """

    task: Task
    model: Model
    gates: mmx.FeatureGates
    known: HeldOut
    unseen: HeldOut
    judged: Examples
    effects: Any
    calibrating: Examples
    calibrating_effects: Any
    relevant: dict[str, np.ndarray]
    modes: np.ndarray
    spread: float


def quiet_reference(task: Task, seed: int) -> dict[str, Modality]:
    """The modalities with one draw of the world's background as reference: no marker, not zero."""

    def other(name: str, modality: Modality) -> Modality:
        key = mmx.derive_key(seed, f"quiet reference of {name}")
        shape = np.shape(modality.reference_at(0))
        return modality.with_reference(0.15 * jax.random.uniform(key, shape, minval=-1.0))

    return {n: other(n, m) for n, m in task.modalities.items()}


def targets_of(task: Task, seed: int, name: str, count: int) -> np.ndarray:
    """The target of the task, or drawn ones where it has none."""
    if task.target is not None:
        return np.full(count, task.target, np.int32)
    key = mmx.derive_key(seed, f"targets of {name}")
    return np.asarray(jax.random.randint(key, (count,), 0, task.outputs), np.int32)


def learn(task: Task, model: Model, seed: int, recipe: Recipe, **options: Any) -> Trained:
    """Trains an explainer of a task's model, the best weights chosen on 256 held-out examples.

    Args:
      task: whose examples are trained on.
      model: that is explained.
      seed: of the held-out examples.
      recipe: all settings.
      **options: of :func:`mmx_jax.learn.fit`.
    """
    held = draw(task.sample, mmx.derive_key(seed, "held out"), 256)
    targets = targets_of(task, seed, "held out", 256)
    sample = task.sample_training
    return fit(model, task.modalities, sample, held.inputs, targets, recipe, **options)


def _of_target(relevant: np.ndarray, targets: Any) -> np.ndarray:
    """``[n, units]``, chosen by the target where there is a row per output."""
    return relevant if relevant.ndim == 2 else relevant[np.arange(len(relevant)), targets]


def bench(task: Task, model: Model, seed: int, wide: int = 512, narrow: int = 96) -> Bench:
    """Draws the splits and measures the model on them, once."""
    gates = mmx.FeatureGates(task.modalities)

    def split(name: str, count: int) -> tuple[Examples, Any]:
        batch = draw(task.sample, mmx.derive_key(seed, name), count)
        inputs = jax.tree.map(np.asarray, batch.inputs)
        keys = mmx.derive_keys(seed, f"{name} keys", count)
        return Examples(inputs, targets_of(task, seed, name, count), keys), batch.truth

    calibrating, _ = split("calibration", 64)
    judged, truth = split("evaluation", narrow)
    broad, _ = split("wide evaluation", wide)
    outputs = mmx.map_examples(model, calibrating.inputs)
    spread = value_range(outputs, np.asarray(calibrating.targets))
    other = mmx.FeatureGates(quiet_reference(task, seed))
    return Bench(
        task,
        model,
        gates,
        hold_out(gates, model, broad.inputs, broad.targets, spread, seed),
        hold_out(other, model, broad.inputs, broad.targets, spread, seed),
        judged,
        measure_effects(gates, model, judged),
        calibrating,
        measure_effects(gates, model, calibrating, sets=False),
        {n: _of_target(np.asarray(r), judged.targets) for n, r in truth["relevant"].items()},
        np.asarray(truth["mode"]),
        spread,
    )


def judge(bench: Bench, explainer: Explainer, stability: int = 24) -> dict[str, Any]:
    """One row: every column of the table for one explainer."""
    row: dict[str, Any] = {"model_calls": explainer.evaluations}
    for name, held in (("known", bench.known), ("unseen", bench.unseen)):
        figures = held.granger(explainer, bench.model)
        row[f"granger_{name}_reference"] = {k: figures[k] for k in GRANGER}
    _, changed = explain_changes(bench.gates, bench.model, explainer, bench.calibrating)
    scale = calibrate(bench.calibrating_effects, changed).scale
    measured, _ = measure(
        bench.gates,
        bench.model,
        explainer,
        bench.judged,
        stability=StabilityPlan(stability, Probe(), rounds=2) if stability else None,
        relevant=bench.relevant,
    )
    row["calibration"] = scale
    row |= at_true_size(bench, measured.faithfulness)
    row |= recovered(bench, measured.recovery)
    if stability:
        row["stability"] = slopes(measured.stability, scale)
    return defined(row)


def defined(row: Any) -> Any:
    """The row with None for what is not defined of this explainer: one that can't be calibrated."""
    if isinstance(row, dict):
        return {name: defined(value) for name, value in row.items()}
    return None if isinstance(row, float | np.floating) and not np.isfinite(row) else row


def steadiness(bench: Bench, explainer: Explainer, count: int) -> dict[str, float | None]:
    """The slopes alone, on a few examples: for explainers of hundreds of model calls."""
    part = jax.tree.map(lambda x: x[:count], bench.judged)
    _, changed = explain_changes(bench.gates, bench.model, explainer, bench.calibrating)
    scale = calibrate(bench.calibrating_effects, changed).scale
    plan = StabilityPlan(count, Probe(), rounds=2)
    measured, _ = measure(bench.gates, bench.model, explainer, part, stability=plan)
    return defined(slopes(measured.stability, scale))


def at_true_size(bench: Bench, tested: Any) -> dict[str, float]:
    """Sufficiency error and necessity share of the top k, with k the true number of units."""
    errors, shares = [], []
    for name, relevant in bench.relevant.items():
        size = relevant.sum(1)
        at = np.arange(len(size)), size
        largest = np.asarray(bench.effects.largest[name])[at]
        counted = (size > 0) & (largest >= 0.02 * bench.spread)
        errors.append(np.abs(np.asarray(tested.keep[name]))[at][counted] / bench.spread)
        shares.append(np.abs(np.asarray(tested.remove[name]))[at][counted] / largest[counted])
    return {
        "sufficiency_error": float(np.mean(np.concatenate(errors))),
        "necessity_share": float(np.mean(np.concatenate(shares))),
    }


def recovered(bench: Bench, found: Any) -> dict[str, float]:
    """Recovery by the joint own set; in the redundancy modes both copies count."""
    redundant = np.array(["redundant" in mode for mode in bench.task.modes])[bench.modes]
    tpr, fdr = np.asarray(found.tpr), np.asarray(found.fdr)
    some = np.isfinite(tpr)  # else no unit matters for the target
    redundant, tpr, fdr = redundant[some], tpr[some], fdr[some]
    out = {"tpr": tpr.mean(), "fdr": fdr.mean()}
    if redundant.any():
        out |= {
            "tpr_redundant": tpr[redundant].mean(),
            "tpr_other": tpr[~redundant].mean(),
            "fdr_other": fdr[~redundant].mean(),
        }
    return {name: float(x) for name, x in out.items()}


def slopes(measured: Any, scale: float) -> dict[str, float | None]:
    """The largest over pairs of c times each constant, beside the model's own.

    ``together`` is the larger of the local one (95 % quantile) and the path maximum, ``ratio`` is
    that over the same of the model.
    """

    def worst(tree: dict[str, Any]) -> np.ndarray | None:
        return np.max([np.asarray(v) for v in tree.values()], axis=0) if tree else None

    out: dict[str, float | None] = {}
    together: dict[str, list[float]] = {"": [], "model_": []}
    for kind in ("point", "searched", "path"):
        theirs = worst(getattr(measured.explanation, kind))
        own = worst(getattr(measured.model, kind))
        for name, found, factor in (("", theirs, scale), ("model_", own, 1.0)):
            if found is None:
                out |= {f"{name}{kind}_p95": None, f"{name}{kind}_max": None}
                continue
            typical, most = float(factor * np.quantile(found, 0.95)), float(factor * np.max(found))
            out |= {f"{name}{kind}_p95": typical, f"{name}{kind}_max": most}
            if kind != "searched":
                together[name].append(typical if kind == "point" else most)
    # kind by kind the truth of a saturated, locally flat model fails
    out["together"] = max(together[""]) if len(together[""]) == 2 else None
    out["model_together"] = max(together["model_"])
    out["ratio"] = out["together"] and out["together"] / out["model_together"]
    return out


@mmx.record
class Scaled:
    """Another explainer's scores times a constant: no column may change."""

    explainer: Explainer
    factor: float = mmx.static(default=100.0)

    @property
    def evaluations(self) -> int:
        """Those of the explainer."""
        return self.explainer.evaluations

    def __call__(self, model: Any, inputs: Any, target: Any, key: Any = None) -> Any:
        """Scores ``{m: [units_m]}`` of one example."""
        scores = self.explainer(model, inputs, target, key)
        return jax.tree.map(lambda s: jnp.asarray(self.factor) * s, scores)
