"""A model that may ignore the image: is the image used, and which explainers claim that it is?

The paper's Fig. 1 on real data. In training every note names the digit (``digits-shortcut``), so
the model can read the note alone. On held-out images with naming, neutral and contradicting notes
the effect of the image is measured by ablation, and every explainer is asked how much of the
answer it lays on the image where no set of patches changes anything.

Run:      python -m experiments.shortcut            (5 seeds, about 10 minutes of CPU time)
          python -m experiments.shortcut --quick    (2 seeds, shorter training)
Expected: with a naming note the image is inactive on 43 to 88 % of the examples, by seed, so it
          is not unused; explainers that compare whole inputs with their reference (Shapley over
          all units, LIME) lay more on the image than those that remove patches one by one.
"""

from typing import Any

import numpy as np

from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.subjects import prepare
from mmx_jax.desiderata import DEFAULTS, calibrate, inactive, value_range
from mmx_jax.desiderata.granger import granger
from mmx_jax.desiderata.measure import explain_changes, measure_effects
from mmx_jax.tasks.digits import MODES

EXPLAINERS = [
    "occlusion",
    "within-shapley",
    "shapley",
    "lime",
    "integrated-gradients",
    "saliency",
    "modality-shapley",
    "rescaled-shapley",
]


def _seed(seed: int, quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """How much the image is used, by kind of note, and what each explainer claims."""
    prepared = prepare("digits-shortcut", seed, 48 if quick else 128, 300 if quick else 800)
    gates, model = prepared.gates, prepared.model
    examples, split = prepared.judging(), prepared.calibrating()
    effects = measure_effects(gates, model, examples, chunk=16)
    known = measure_effects(gates, model, split, sets=False, chunk=16)
    spread = value_range(np.asarray(known.outputs), split.targets)
    idle = inactive(effects, spread, DEFAULTS)["image"]
    active = np.asarray(effects.effect["image"]) > DEFAULTS.active * spread
    used = []
    for i, mode in enumerate(prepared.task.modes):
        here = prepared.modes == i
        used.append(
            {
                "note": mode,
                "seed": seed,
                "examples": int(here.sum()),
                "image active": float(active[here].mean()) if here.any() else None,
                "image inactive": float(idle[here].mean()) if here.any() else None,
                "mean effect": float(np.asarray(effects.effect["image"])[here].mean())
                if here.any()
                else None,
            }
        )
    claims = []
    for name, explainer in prepared.explainers(EXPLAINERS, quick).items():
        _, before = explain_changes(gates, model, explainer, split)
        _, changed = explain_changes(gates, model, explainer, examples)
        scale = calibrate(known, before).scale
        row: dict[str, Any] = {"explainer": name, "seed": seed, "over-claim of the image": None}
        if np.isfinite(scale):
            found = granger(effects, changed, scale, spread, DEFAULTS)["image<-image"]
            value = found["overclaim"]
            row["over-claim of the image"] = value if isinstance(value, float) else None
            row["inactive examples"] = found["inactive"]
        claims.append(row)
    return used, claims


def experiment(run: Run) -> Outcome:
    """Use of the image and over-claims over all seeds."""
    used: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    seeds = run.seeds(2 if run.quick else 5)
    for seed in seeds:
        found, said = _seed(seed, run.quick)
        used, rows = used + found, rows + said
    naming = {r["seed"]: r for r in used if r["note"] == MODES[0]}
    claims = [
        at_least(
            "the image is inactive with a naming note, share of examples",
            {s: r["image inactive"] for s, r in naming.items()},
            0.5,
        ),
        at_most(
            "the image is active with a naming note, share of examples",
            {s: r["image active"] for s, r in naming.items()},
            0.2,
        ),
    ]
    for name in dict.fromkeys(r["explainer"] for r in rows):
        over = {r["seed"]: r["over-claim of the image"] for r in rows if r["explainer"] == name}
        claims.append(at_most(f"over-claim of the image by {name}", over, DEFAULTS.overclaim))
    return Outcome(claims, {"use of the image": used, "over-claims": rows})


if __name__ == "__main__":
    main("shortcut", __doc__, experiment)
