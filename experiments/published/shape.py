"""SHAPE (Hu, Li and Zhou, IJCAI 2022): the cooperation of modalities on XOR and HD-XOR.

    python -m experiments.published.shape

The InterSHAP paper's SHAPE column takes macro F1 of zero-masked inputs and, for nobody, the
*accuracy* of the majority vote; this mixture is why it is not 0 on uniqueness. Beside it the same
with one metric throughout. The claims are the exact number on XOR and the signs of the published
column: what a network answers to a zero-masked input is no interpolation of its data and varies
with the run, so sizes are shown only. About 8 minutes on one free core, ``--quick`` under a minute.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.common import Outcome, Run, at_least, main
from experiments.published.common import near, with_versions
from experiments.published.hdxor import PUBLISHED_SEEDS, Scale, make_data, train
from mmx_jax import FeatureGates, Modality, as_model
from mmx_jax.interactions import accuracy, performance_game, shape

PUBLISHED = {"uniqueness": 16.5, "synergy": 27.6, "redundancy": -47.1, "random": 15.1}


def exact_xor() -> float:
    """Cooperation on XOR of two 0/1 bits, in percent."""
    table = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    units = FeatureGates({"a": Modality.columns(1), "b": Modality.columns(1)})

    def xor(x: dict[str, Any]) -> Any:
        odd = jnp.abs(x["a"][0] - x["b"][0])
        return jnp.stack([1 - odd, odd])

    batch = {"a": table[:, :1], "b": table[:, 1:]}
    game = performance_game(units, as_model(xor), batch, (table.sum(1) == 1).astype(int))
    return 100 * float(shape(game).cooperation)


def experiment(run: Run) -> Outcome:
    """Compares cooperation on the exact and the trained worlds."""
    scale = Scale.quick() if run.quick else Scale()
    seeds = [s + run.seed for s in (PUBLISHED_SEEDS[:1] if run.quick else PUBLISHED_SEEDS)]
    claims = [near("cooperation on XOR", {run.seed: exact_xor()}, 100 / 3, 0.01)]
    rows = []
    for setting, published in PUBLISHED.items():
        mixed, single = {}, {}
        for seed in seeds:
            data = make_data(setting, seed, scale.examples)
            model = train(data, "early", seed, scale)
            units = FeatureGates({n: Modality.columns(x.shape[1]) for n, x in data.test[0].items()})
            game = performance_game(units, model, *data.test, base=accuracy)
            alike = performance_game(units, model, *data.test)
            mixed[seed] = 100 * float(shape(game).cooperation)
            single[seed] = 100 * float(shape(alike).cooperation)
        mean = float(np.mean(list(mixed.values())))
        rows.append(
            {"setting": setting, "published": published, "ours, as published": mean}
            | {"spread": float(np.std(list(mixed.values())))}
            | {"ours, one metric": float(np.mean(list(single.values())))}
        )
        sign = float(np.sign(published))
        claims.append(
            at_least(
                f"sign of {setting}", {s: sign * float(np.sign(v)) for s, v in mixed.items()}, 1
            )
        )
    return with_versions(Outcome(claims, {"SHAPE cooperation, %": rows}), "shape", run)


if __name__ == "__main__":
    main("published.shape", __doc__, experiment)
