"""Judges explanations by the three desiderata of arXiv 2506.13060, made computable.

What depends on the model alone is computed once per example (:func:`model_effects`) and shared by
all explainers; an explainer's scores are computed once (:func:`explained`) and shared by all
desiderata. Records are per example; :func:`scorecard` aggregates them, and :func:`measure` runs
everything over many examples with one compiled program per explainer.
"""

from mmx_jax.desiderata.applicability import inactive, redundant, smallest, unused
from mmx_jax.desiderata.calibration import Calibration, calibrate, value_range
from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.effects import ModelEffects, model_effects
from mmx_jax.desiderata.explained import (
    Changes,
    Explained,
    changes,
    collect,
    counterfactuals,
    explained,
)
from mmx_jax.desiderata.faithfulness import Faithfulness, faithfulness
from mmx_jax.desiderata.jacobian import not_differentiable, point
from mmx_jax.desiderata.keys import key_variance
from mmx_jax.desiderata.measure import (
    Examples,
    StabilityPlan,
    explain_changes,
    explain_rows,
    measure,
    measure_effects,
    radii,
)
from mmx_jax.desiderata.others import (
    Curves,
    Infidelity,
    curves,
    fsyn,
    infidelity,
    rank_correlations,
)
from mmx_jax.desiderata.perturb import Perturbations, Probe, Quotients, perturbations, quotients
from mmx_jax.desiderata.scorecard import Measured, scorecard
from mmx_jax.desiderata.stability import ModelStability, Stability, model_stability, stability
from mmx_jax.desiderata.steadiness import MeasuredStability, model_stability_figures
from mmx_jax.desiderata.truth import Recovery, pair_recovery, pair_units, recovery, recovery_figures
from mmx_jax.desiderata.undefined import Undefined, number, settle

__all__ = [
    "DEFAULTS",
    "Calibration",
    "Changes",
    "Constants",
    "Curves",
    "Examples",
    "Explained",
    "Faithfulness",
    "Infidelity",
    "Measured",
    "MeasuredStability",
    "ModelEffects",
    "ModelStability",
    "Perturbations",
    "Probe",
    "Quotients",
    "Recovery",
    "Stability",
    "StabilityPlan",
    "Undefined",
    "calibrate",
    "changes",
    "collect",
    "counterfactuals",
    "curves",
    "explain_changes",
    "explain_rows",
    "explained",
    "faithfulness",
    "fsyn",
    "inactive",
    "infidelity",
    "key_variance",
    "measure",
    "measure_effects",
    "model_effects",
    "model_stability",
    "model_stability_figures",
    "not_differentiable",
    "number",
    "pair_recovery",
    "pair_units",
    "perturbations",
    "point",
    "quotients",
    "radii",
    "rank_correlations",
    "recovery",
    "recovery_figures",
    "redundant",
    "scorecard",
    "settle",
    "smallest",
    "stability",
    "unused",
    "value_range",
]
