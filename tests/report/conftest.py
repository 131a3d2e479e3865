"""A made-up audit of a graph, an image, a note and a table, with figures that are easy to check."""

import dataclasses

import numpy as np
import pytest

from mmx_jax.desiderata.constants import DEFAULTS
from mmx_jax.report.table import VERDICTS

EVIL = '<script>alert("x")</script>'


def _pair(diagonal, unit=0.04):
    return {
        "alpha": 0.9,
        "alpha_q05": 0.95,
        "violation_rate": 0.0,
        "violation_interval": [0.0, 0.12],
        "overclaim": 0.03,
        "unit_overclaim": None if diagonal else unit,
        "spearman": 0.98,
        "active": 12,
        "inactive": 3,
        "frontier": [[a / 10, 0.002 * a] for a in range(11)],
    }


def _demand(own, area):
    return {"own": own, "area": area, "holds": 1.0, "interval": [0.8, 1.0], "epsilon": 0.05}


def _explainer(names, verdict, **changes):
    groups = [*names, "joint"]
    pairs = [(n, m) for n in names for m in names]
    entry = {
        "calibration": 1.25,
        "granger": {f"{n}<-{m}": _pair(n == m) for n, m in pairs},
        "sufficiency": {g: _demand(0.02, 0.1) for g in groups},
        "necessity": {g: _demand(0.97, 0.8) | {"drop": 0.9} for g in groups},
        "own_set": {g: 0.25 for g in groups},
        "applicable": dict.fromkeys(groups, 1.0),
        "stability": {
            f"{n}<-{m}": {
                "point": 0.5,
                "searched": 0.7,
                "path": 0.9,
                "certified": None,
                "relative": 1.4,
            }
            for n, m in pairs
        },
        "key_variance": 0.0,
        "truth": {"tpr": 1.0, "fdr": 0.0, "rank_correlation": 0.99},
        "evaluations": 65,
        "calibration_per_modality": dict.fromkeys(names, 1.25),
        "own_set_holds": dict.fromkeys(groups, 1.0),
        "unused": dict.fromkeys(names, 0.0),
        "redundant": dict.fromkeys(names, 0.0),
        "moves": {},
        "why": {v: ["too steep"] if v == "stability" else [] for v in VERDICTS},
        "reasons": {},
        "verdict": dict(zip(("granger", "faithfulness", "stability"), verdict, strict=True)),
    }
    entry["granger"][f"{names[0]}<-{names[0]}"] |= changes
    return entry


@pytest.fixture
def results():
    names = ["image", "note"]
    return {
        "schema": "audit/1",
        "task": "made-up",
        "model": "exact",
        "link": "identity",
        "reference": {"image": "zero", "note": "given"},
        "seed": 0,
        "examples": {"calibration": 8, "evaluation": 16, "stability": 4},
        "constants": dataclasses.asdict(DEFAULTS),
        "range": 1.0,
        "explainers": {
            "shapley": _explainer(names, ("pass", "pass", "pass")),
            "saliency": _explainer(names, ("fail", "pass", "fail"), overclaim=0.4),
            "control-constant": _explainer(names, ("fail", "fail", "pass")),
        },
    }


def _explanation(image, note):
    scores = {"image": image.tolist(), "note": list(note)}
    own = {"image": [5, 6], "note": [1]}
    return {
        "scores": scores,
        "own": own,
        "named": {"image": [5], "note": [1]},
    }


@pytest.fixture
def panels():
    rng = np.random.default_rng(0)
    grid = rng.normal(size=16) * 0.1
    grid[[5, 6]] = 0.6, -0.4
    words = ["·", "it", "is", "seven", EVIL]
    share = np.linspace(0, 1, 9)
    names = ("shapley", "saliency", "control-constant")
    curve = {
        "share": share.tolist(),
        "keep": ((1 - share) ** 2).tolist(),
        "remove": np.sqrt(share).tolist(),
    }
    return {
        "schema": "panels/1",
        "command": "mmx audit --task made-up",
        "modalities": {
            "image": {
                "kind": "patch",
                "units": 16,
                "layout": [4, 4],
                "labels": [],
                "reference": "zero",
            },
            "note": {
                "kind": "token id",
                "units": 4,
                "layout": [4, 5],
                "labels": words,
                "reference": "given",
            },
        },
        "use": {
            "image": {"effect": 0.41, "active": 0.9, "inactive": 0.05},
            "note": {"effect": 0.12, "active": 0.3, "inactive": 0.6},
        },
        "accuracy": 0.98,
        "redundant": 0.25,
        "interacting": 0.5,
        "controls": ["control-constant"],
        "changes": {n: {"image": 0.4, "note": 0.2} for n in names},
        "curves": dict.fromkeys(names, curve),
        "stability": ["shapley"],
        "examples": [
            {
                "index": 3,
                "target": 7,
                "target_name": "seven",
                "value": 0.97,
                "predicted": True,
                "label": "the label says seven",
                "inputs": {"image": rng.random((8, 8)).tolist(), "note": [1, 3, 2, 4]},
                "effects": {"image": 0.43, "note": 0.31},
                "state": {"image": "active", "note": "active"},
                "redundant": [],
                "explanations": {
                    n: _explanation(grid * s, [0.01, 0.5 * s, 0.02, 0.3])
                    for n, s in zip(names, (1.0, -1.0, 0.1), strict=True)
                },
            }
        ],
    }
