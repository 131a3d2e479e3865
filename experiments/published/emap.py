"""EMAP (Hessel and Lee, EMNLP 2020): worked example, HD-XOR gaps, and what the link hides.

    python -m experiments.published.emap

The gap is macro F1 of an early-fusion network minus that of its additive projection, on pairs of
test rows. The last claims are about links: late fusion has additive logits, so its gap is 0, and
yet InterSHAP on its probabilities is not, because the softmax bends sums (remeasured 14.4 % on a
network of our own). It shows where networks are unsure or have learned by heart (synergy, random);
where each modality decides alone or both agree the bends cancel (under 1 %). About 9 minutes on
one free core, 90 seconds with the networks of ``intershap_hdxor``; ``--quick`` under a minute.
"""

import dataclasses

import numpy as np

from experiments.common import Outcome, at_least, at_most, main
from experiments.published.choices import scores
from experiments.published.common import in_order, near, with_versions
from experiments.published.hdxor import Data
from experiments.published.networks import Networks, Options
from mmx_jax import SplitModel
from mmx_jax.interactions import all_pairs, emap, macro_f1
from mmx_jax.model import IDENTITY

# EMAP gap in points of F1: published and remeasured
GAPS = {
    "synergy": (43.5, 41.1),
    "redundancy": (1.8, 4.0),
    "uniqueness": (0.0, 0.3),
    "random": (0.6, -0.3),
}
TOLERANCE = 5.0
DRAWS = 100
"""Rows that stand in for a masked modality in the claims about links."""


def gap(model: SplitModel, data: Data, rows: int) -> float:
    """Macro F1 of the model minus that of its projection, in points, on the first test rows."""
    inputs = {n: x[:rows] for n, x in data.test[0].items()}
    labels = data.test[1][:rows]
    logits = all_pairs(dataclasses.replace(model, link=IDENTITY), inputs, "m0", chunk=8)
    own = logits[np.arange(len(labels)), np.arange(len(labels))]
    projected = emap(logits)
    return 100 * (macro_f1(own.argmax(-1), labels) - macro_f1(projected.argmax(-1), labels))


def experiment(run: Options) -> Outcome:
    """Projects the worked example and the trained networks."""
    networks, seeds = Networks(run), run.network_seeds
    rows, draws = (100, 10) if run.quick else (1500, DRAWS)
    table = np.array([[-1.3, 0.3, -0.2], [0.8, 3.0, 1.1], [1.1, -0.1, 0.7]])
    worst = float(np.max(np.abs(emap(table) - np.array([-0.8, 2.1, 0.5]))))
    claims = [at_most("worked example, largest error", {run.seed: worst}, 1e-6)]
    shown, means = [], {}
    for setting, (published, before) in GAPS.items():
        found = {}
        for seed in seeds:
            data, models = networks(setting, "early", seed)
            found[seed] = gap(models["last"], data, rows)
        means[setting] = float(np.mean(list(found.values())))
        claims.append(near(f"gap of {setting}", found, published, TOLERANCE))
        shown.append(
            {"setting": setting, "published": published, "remeasured": before}
            | {"ours": means[setting], "spread": float(np.std(list(found.values())))}
        )
    claims.append(in_order("gaps", {s: means[s] for s in ("synergy", "redundancy", "uniqueness")}))
    linked = []
    for setting in ("synergy", "random", "redundancy"):
        additive, on_probabilities = {}, {}
        for seed in seeds:
            data, models = networks(setting, "late", seed)
            additive[seed] = abs(gap(models["last"], data, min(rows, 500)))
            on_probabilities[seed] = float(scores(models["last"], data, draws, seed)[0].total)
        claims.append(at_most(f"late fusion, {setting}: gap of logits", additive, 1e-6))
        if setting != "redundancy":
            text = f"late fusion, {setting}: InterSHAP on probabilities"
            claims.append(at_least(text, on_probabilities, 5.0))
        mean = float(np.mean(list(on_probabilities.values())))
        linked.append({"setting": f"late fusion, {setting}", "ours": mean})
    tables = {
        "EMAP gap, points of F1": shown,
        "InterSHAP on probabilities of additive logits, %": linked,
    }
    return with_versions(Outcome(claims, tables), "emap", run)


if __name__ == "__main__":
    main("published.emap", __doc__, experiment, Options)
