"""What moves InterSHAP on HD-XOR: choices that the paper leaves open, changed one at a time.

The released code's early versions train with batches of 5000 rather than of 400, three steps an
epoch instead of 35, so that 200 epochs are 600 steps; the paper names no batch size. It prints how
sure its networks are of their answers (its figure 2), which tells the two apart. The released code
takes the rows that mask from the validation split, anew for every 100 examples and coalition,
explains the first 2000 test rows, and fixes one draw of the data for all seeds.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.published.hdxor import Data
from experiments.published.networks import Networks
from mmx_jax import FeatureGates, Modality, SplitModel
from mmx_jax.interactions import InterShap, intershap, modality_games
from mmx_jax.model import IDENTITY
from mmx_jax.numerics import derive_key

__all__ = ["CHOICES", "as_released", "confidence", "moved", "scores"]

ROWS, TOGETHER = 2000, 100
"""Test rows that the released code explains, and how many share the rows that mask."""

CHOICES = ("redundancy", "random", "synergy, M = 3", "uniqueness")
"""Settings whose choices are changed: InterSHAP differs, or the local score does."""


def scores(
    model: SplitModel,
    data: Data,
    draws: int,
    seed: int,
    apart: bool = False,
) -> tuple[InterShap, np.ndarray]:
    """InterSHAP on the test split, absent modalities being those of other rows.

    Args:
      model: the network.
      data: one draw of a setting.
      draws: how many rows stand in.
      seed: of those rows.
      apart: whether modalities that are masked together come from different rows.
    """
    key = derive_key(seed, "reference rows")
    modalities = {
        # one key for all modalities: what is masked together comes from the same row
        n: Modality.columns(x.shape[1]).with_marginal(
            x, draws, derive_key(key, n) if apart else key
        )
        for n, x in data.test[0].items()
    }
    games = modality_games(FeatureGates(modalities), model, data.test[0], chunk=250)
    return intershap(games), games


def as_released(model: SplitModel, data: Data, draws: int, seed: int) -> InterShap:
    """The same with the rows, the splits and the number of examples of the released code."""
    test = {n: x[:ROWS] for n, x in data.test[0].items()}
    whole, base = (np.asarray(jax.jit(jax.vmap(model))(x)) for x in (test, data.valid[0]))
    count, last = len(whole), 2 ** len(test) - 1
    best = whole.argmax(-1)
    games = np.zeros((count, last + 1))
    games[:, 0], games[:, last] = base.mean(0)[best], whole[np.arange(count), best]
    for coalition in range(1, last):
        for start in range(0, count, TOGETHER):
            some = slice(start, start + TOGETHER)
            key = derive_key(seed, f"rows {coalition} {start}")
            part = {n: x[some] for n, x in test.items()}
            values = np.asarray(_masked(model, part, data.valid[0], key, draws, coalition))
            games[some, coalition] = np.take_along_axis(values, best[some, None], 1)[:, 0]
    return intershap(games)


@partial(jax.jit, static_argnums=4)
def _masked(model: SplitModel, x: Any, rows: Any, key: Any, draws: int, coalition: Any) -> Any:
    """Outputs ``[examples, classes]`` of a coalition, a mean over drawn rows."""
    names = sorted(x)
    drawn = jax.random.randint(key, (draws,), 0, rows[names[0]].shape[0])
    others = {n: jax.vmap(model.encoders[n])(rows[n][drawn]) for n in names}

    def one(own: Any) -> Any:
        def under(other: Any) -> Any:
            here = {n: coalition >> m & 1 == 1 for m, n in enumerate(names)}
            return model.decode({n: jnp.where(here[n], own[n], other[n]) for n in names})

        return jnp.mean(jax.vmap(under)(others), 0)

    return jax.lax.map(one, {n: jax.vmap(model.encoders[n])(x[n]) for n in names}, batch_size=20)


def confidence(model: SplitModel, data: Data) -> float:
    """The mean probability of the predicted class on the test split, in percent."""
    return 100 * float(np.asarray(jax.jit(jax.vmap(model))(data.test[0])).max(-1).mean())


def moved(setting: str, seed: int, networks: Networks) -> dict[str, tuple[float, float, float]]:
    """InterSHAP, its local form and the confidence of a network, by the choice that is changed."""
    data, models = networks(setting, "early", seed)
    _, large = networks(setting, "early", seed, large=True)
    draws = max(networks.scale.draws // 5, 10)

    def of(model: SplitModel, found: InterShap | None = None, apart: bool = False) -> Any:
        found = scores(model, data, draws, seed, apart)[0] if found is None else found
        return float(found.total), float(found.local), confidence(model, data)

    last = models["last"]
    many = networks.scale.draws if len(last.encoders) == 2 else draws
    found, games = scores(last, data, draws, seed)
    logits = dataclasses.replace(last, link=IDENTITY)
    raw = scores(logits, data, draws, seed)[0]
    return {
        "as stated": of(last, found),
        "batches of 5000": of(large["last"]),
        "best epoch on validation": of(models["best"]),
        "25% of the epochs": of(models["25%"]),
        "50% of the epochs": of(models["50%"]),
        "on logits": of(last, raw),
        "masked modalities from different rows": of(last, apart=True),
        "rows and splits of the released code": of(
            last,
            as_released(last, data, many, seed),
        ),
        "100 test rows": of(last, intershap(games[:TOGETHER])),
    }
