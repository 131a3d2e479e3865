"""The audit itself: explanations once, desiderata on top, a scorecard row per explainer."""

import dataclasses
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mmx_jax.cli.console import Advance, Terminal
from mmx_jax.cli.panels import Judged, draw_panels
from mmx_jax.cli.subject import Subject
from mmx_jax.desiderata import (
    DEFAULTS,
    Changes,
    Examples,
    Measured,
    ModelEffects,
    StabilityPlan,
    calibrate,
    explain_changes,
    measure,
    measure_effects,
    radii,
    scorecard,
    value_range,
)
from mmx_jax.desiderata.measure import explain_rows
from mmx_jax.desiderata.truth import leaves_open
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import map_examples
from mmx_jax.numerics import derive_keys
from mmx_jax.runs import plain
from mmx_jax.threads import side_by_side
from mmx_jax.typing import Explainer

__all__ = ["Plan", "audit"]

JACOBIAN_CALLS = 128
"""Explainers of more model calls than this are not differentiated, which would take too long."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How an audit runs.

    Attributes:
      seed: of the keys of explanations and tie-breaks.
      chunk: explanations per compiled call; None for a default.
      mesh: devices, or None.
      stability: how many judged examples carry the stability columns.
      carriers: which explainers do.
      jacobians: whether the constants at the point are computed, where it doesn't take too long.
      keys: how many more keys the share of variance due to the key is taken from.
    """

    seed: int
    chunk: int | None
    mesh: Mesh | None
    stability: int
    carriers: frozenset[str]
    jacobians: bool = True
    keys: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        """What every map over examples is given."""
        return {"chunk": self.chunk or 32, "mesh": self.mesh}


@dataclasses.dataclass(frozen=True)
class Splits:
    """What all explainers of an audit share: the two splits, and the radius of perturbations."""

    subject: Subject
    gates: FeatureGates
    calibrating: Examples
    judging: Examples
    radius: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Uncalibrated:
    """One explainer's scores and measurements, and its changes on the calibration split."""

    scores: dict[str, np.ndarray]
    measured: Measured
    changes: Changes
    seconds: float


def audit(
    subject: Subject, explainers: dict[str, Explainer], plan: Plan, terminal: Terminal
) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """Judges every explainer on the subject's examples.

    Each explainer is compiled once; all explainers share the compiled tests and the model's own
    effects. Explainers are worked on side by side, one per core, because most of the time goes
    into compiling; every one has keys of its own, so the order does not matter.

    Returns:
      what goes into ``results.json`` and ``panels.json``, and the seconds of each explainer.
    """
    splits = _splits(subject, plan)
    count = len(explainers)
    name = f"explaining and judging with {count} explainer{'s' * (count != 1)}"
    with terminal.stage(name) as advance:
        effects, measured = _side_by_side(splits, explainers, plan, advance)
    cut = len(splits.calibrating)
    first, rest = (
        jax.tree.map(lambda x, r=r: x[r], effects) for r in (slice(cut), slice(cut, None))
    )
    spread = value_range(np.asarray(first.outputs), splits.calibrating.targets)
    judged = {
        n: Judged(m.scores, m.measured, calibrate(first, m.changes), m.seconds)
        for n, m in measured.items()
    }
    results = {
        "schema": "audit/1",
        "task": subject.name,
        "model": subject.kind,
        "link": subject.link,
        "reference": {n: m.reference_kind for n, m in sorted(subject.modalities.items())},
        "seed": plan.seed,
        "examples": {
            "calibration": len(splits.calibrating),
            "evaluation": len(splits.judging),
            "stability": min(plan.stability, len(splits.judging)),
        },
        "constants": dataclasses.asdict(DEFAULTS),
        "range": spread,
        "explainers": {
            name: scorecard(rest, j.measured, j.calibration, spread, DEFAULTS)
            for name, j in judged.items()
        },
    }
    seconds = {name: round(j.seconds, 3) for name, j in judged.items()}
    panels = draw_panels(subject, rest, judged, spread)
    return plain(results), plain(panels), seconds


def _splits(subject: Subject, plan: Plan) -> Splits:
    count = len(subject.calibration_targets)
    keys = derive_keys(plan.seed, "explain", count + len(subject.evaluation_targets))
    return Splits(
        subject=subject,
        gates=FeatureGates(subject.modalities),
        calibrating=Examples(subject.calibration, subject.calibration_targets, keys[:count]),
        judging=Examples(subject.evaluation, subject.evaluation_targets, keys[count:]),
        radius=radii(subject.calibration, DEFAULTS),
    )


def _effects(splits: Splits, plan: Plan) -> ModelEffects:
    """Of both splits in one map, the calibrating examples first: compiled once."""
    first, rest = splits.calibrating, splits.judging
    both = Examples(
        jax.tree.map(lambda *parts: np.concatenate(parts), first.inputs, rest.inputs),
        np.concatenate([first.targets, rest.targets]),
        jnp.concatenate([first.keys, rest.keys]),
    )
    return measure_effects(splits.gates, splits.subject.model, both, **plan.settings)


def _side_by_side(
    splits: Splits, explainers: dict[str, Explainer], plan: Plan, advance: Advance
) -> tuple[ModelEffects, dict[str, Uncalibrated]]:
    """The model's effects, and every explainer, in as many threads as there are cores.

    The first explainer goes ahead of the others: it compiles the tests that all share.
    """
    finished: list[str] = []

    def work(name: str) -> Uncalibrated:
        advance.say(name)
        out = _judge(name, explainers[name], splits, plan)
        finished.append(name)
        advance(len(finished), len(explainers), 0.0)
        return out

    def judge(names: list[str]) -> dict[str, Any]:
        return {name: partial(work, name) for name in names}

    workers = None if plan.mesh is None else 1
    lead = next((n for n in explainers if n in plan.carriers), next(iter(explainers)))
    first = judge([lead]) | {"": partial(_effects, splits, plan)}
    out: dict[str, Any] = side_by_side(first, workers)
    out |= side_by_side(judge([n for n in explainers if n != lead]), workers)
    return out.pop(""), {name: out[name] for name in explainers}


def _judge(name: str, explainer: Explainer, splits: Splits, plan: Plan) -> Uncalibrated:
    """Everything the scorecard needs of one explainer."""
    subject, gates = splits.subject, splits.gates
    started = time.monotonic()
    _, changed = explain_changes(
        gates, subject.model, explainer, splits.calibrating, **plan.settings
    )
    stability = None
    if name in plan.carriers and plan.stability:
        few = explainer.evaluations <= JACOBIAN_CALLS
        why = f"its Jacobian takes more than {JACOBIAN_CALLS} model calls"
        stability = StabilityPlan(
            examples=plan.stability,
            point=plan.jacobians and few,
            no_point=why if plan.jacobians else "a quick audit computes no Jacobians",
        )
    truth = subject.truth or {}
    measured, intact = measure(
        gates,
        subject.model,
        explainer,
        splits.judging,
        joint=_joint(splits, explainer, plan) if name == "truth" else None,
        stability=stability,
        radius=splits.radius,
        keys=plan.keys,
        relevant=truth.get("relevant"),
        **plan.settings,
    )
    scores = jax.tree.map(np.asarray, intact)
    return Uncalibrated(scores, measured, changed, time.monotonic() - started)


def _joint(splits: Splits, reference: Any, plan: Plan) -> Explainer | None:
    """The truth over all units, for the joint test; None where it leaves the truth open."""
    subject, judging = splits.subject, splits.judging
    known = subject.truth or {}
    if "relevant" not in known or not hasattr(reference, "joint"):
        return None
    joint = dataclasses.replace(reference, joint=True)
    single = jax.tree.map(lambda x: np.asarray(x)[:, None], judging.inputs)
    rows = explain_rows(
        joint, subject.model, single, judging.targets, judging.keys, **plan.settings
    )
    outputs = map_examples(subject.model, splits.calibrating.inputs)
    spread = value_range(np.asarray(outputs), splits.calibrating.targets)
    scores, units = {m: s[:, 0] for m, s in rows.items()}, ~np.asarray(known["set_only"])
    return None if leaves_open(scores, known["relevant"], units, spread) else joint
