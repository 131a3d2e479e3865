"""Explainers of pairs of units across modalities, judged and made ready to be drawn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.cli.console import Advance
from mmx_jax.cli.explainers import EXACT_UNITS, Setting
from mmx_jax.cli.subject import Subject
from mmx_jax.errors import InputError
from mmx_jax.explainers import Occlusion
from mmx_jax.interactions import (
    DIME,
    PairExplainer,
    PairFaithfulness,
    PairRecovery,
    PairScores,
    ProductPairs,
    SampledPairs,
    SecondOrderGradients,
    ShapleyPairs,
    pair_faithfulness,
    pair_recovery,
)
from mmx_jax.intervention import FeatureGates
from mmx_jax.mapping import map_examples
from mmx_jax.numerics import derive_key, derive_keys
from mmx_jax.report.pictures import describe, unit_names
from mmx_jax.typing import Inputs, Intervention, Model, PRNGKey, Target, record, static

__all__ = ["BUDGET", "PairJudge", "judge_pairs", "pair_explainers"]

BUDGET = 3
"""Pairs whose units are kept and removed where it is not known how many interact."""

BACKGROUND = 4
"""Examples that DIME combines: their number to the power of the modalities is its cost."""


@record
class PairJudge:
    """Explains the pairs of one example and judges them.

    Attributes:
      explainer: of pairs.
      intervention: keeps and removes units.
      budget: pairs whose units are kept and removed where none is known to interact.
    """

    explainer: PairExplainer
    intervention: Intervention
    budget: int = static(default=BUDGET)

    def __call__(
        self,
        model: Model,
        inputs: Inputs,
        target: Target,
        truth: PairScores,
        scale: Float[Array, ""],
        key: PRNGKey,
    ) -> tuple[PairScores, PairRecovery, PairFaithfulness]:
        """Scores, how well they find ``truth``, and keep / remove in units of ``scale``."""
        scores = self.explainer(model, inputs, target, key)
        ties = derive_key(key, "ties")
        count = jnp.asarray(sum(jnp.sum(t) for t in truth.values()))
        budget = jnp.where(count > 0, count, self.budget)
        kept = pair_faithfulness(
            self.intervention, model, inputs, target, scores, budget, scale, ties
        )
        return scores, pair_recovery(scores, truth, ties), kept


def pair_explainers(setting: Setting) -> dict[str, PairExplainer]:
    """Explainers of pairs by the name they are reported under.

    Shapley interactions are exact up to 10 units in all and sampled beyond; second-order gradients
    are left out on integers and on models without gradients.
    """
    modalities = setting.modalities
    gates = FeatureGates(modalities)
    out: dict[str, PairExplainer] = {}
    if sum(gates.units.values()) <= EXACT_UNITS:
        out["Shapley interactions"] = ShapleyPairs(gates)
    else:
        out["sampled Shapley interactions"] = SampledPairs(gates, samples=setting.samples(64))
    if not setting.integers() and not setting.no_gradient:
        out["second-order gradients"] = SecondOrderGradients(gates)
    few = jax.tree.map(lambda leaf: leaf[:BACKGROUND], setting.background)
    out["DIME's interaction part"] = ProductPairs(DIME(Occlusion(modalities), few))
    return out


def judge_pairs(
    subject: Subject,
    spread: float,
    seed: int,
    quick: bool,
    drawn: list[int],
    advance: Advance | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Explains the pairs of all judged examples.

    Args:
      subject: with at least two modalities.
      spread: the range R.
      seed: of the keys.
      quick: fewer samples.
      drawn: the examples that the page draws.
      advance: shows which explainer is at work.

    Returns:
      per explainer what was measured, and per drawn example the scores of its pairs.

    Raises:
      InputError: one modality only.
    """
    if len(subject.modalities) < 2:
        raise InputError("pairs", "needs two modalities", "leave --pairs out")
    setting = Setting(subject.modalities, subject.calibration, subject.model, None, quick, seed)
    truth, known = _truth(subject)
    count = len(subject.evaluation_targets)
    has = np.any([t.reshape(count, -1).any(1) for t in truth.values()], axis=0)
    # keep and remove say nothing of pairs where it is known that none interacts
    rows = has if has.any() else np.ones(count, bool)
    keys = derive_keys(seed, "pairs", count)
    measured: dict[str, Any] = {}
    pictures: dict[str, Any] = {str(i): {} for i in drawn}
    explainers = pair_explainers(setting)
    for done, (name, explainer) in enumerate(explainers.items()):
        if advance is not None:
            advance(done, len(explainers), 0.0)
            advance.say(name)
        scores, found, kept = map_examples(
            PairJudge(explainer, FeatureGates(subject.modalities)),
            subject.model,
            subject.evaluation,
            subject.evaluation_targets,
            truth,
            np.full(count, spread, np.float32),
            keys,
            in_axes=(None, 0, 0, 0, 0, 0),
            chunk=4,
        )
        measured[name] = {
            "evaluations": int(explainer.evaluations),
            "sufficiency_error": float(np.mean(kept.sufficiency_error[rows])),
            "necessity": float(np.mean(np.abs(kept.necessity[rows]))),
            "kept": float(np.mean(kept.kept[rows])),
            "precision": float(np.mean(found.precision[has])) if has.any() else None,
            "auc": float(np.mean(found.auc[has])) if has.any() else None,
            "known": int(has.sum()),
            "reason": None if has.any() else known,
        }
        for i in drawn:
            pictures[str(i)][name] = {f"{n}*{m}": s[i] for (n, m), s in scores.items()}
    if advance is not None:
        advance(len(explainers), len(explainers), 0.0)
    return measured, {
        "budget": BUDGET,
        "examples": pictures,
        "true": {str(i): {f"{n}*{m}": t[i] for (n, m), t in truth.items()} for i in drawn},
        "units": {str(i): _units(subject, i) for i in drawn},
    }


def _truth(subject: Subject) -> tuple[dict[tuple[str, str], np.ndarray], str]:
    """Which pairs interact, none where that is not known; and why recovery may be undefined."""
    declared = (subject.truth or {}).get("pairs")
    if declared is not None:
        return {p: np.asarray(t) for p, t in declared.items()}, "no pair interacts on these inputs"
    gates = FeatureGates(subject.modalities).units
    count, names = len(subject.evaluation_targets), list(gates)
    none = {
        (n, m): np.zeros((count, gates[n], gates[m]), bool)
        for i, n in enumerate(names)
        for m in names[i + 1 :]
    }
    return none, "it is not known which pairs interact"


def _units(subject: Subject, i: int) -> dict[str, list[str]]:
    data = jax.tree.map(lambda leaf: np.asarray(leaf)[i], subject.evaluation)
    return {n: unit_names(describe(m), data[n]) for n, m in subject.modalities.items()}
