"""InterSHAP and its calibrated companion on games of bits, whose scores are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import FeatureGates, Modality, SplitModel, as_model
from mmx_jax.errors import InputError
from mmx_jax.interactions import (
    bootstrap,
    coalition_outputs,
    intershap,
    modality_games,
)


def game_of_bits(label, m, balanced=False):
    """Chance to keep the label when absent bits are redrawn together; one row per bit pattern."""
    n = 1 << m
    bits = (np.arange(n)[:, None] >> np.arange(m)) & 1
    y = np.array([bool(label(b)) for b in bits])
    weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum()) if balanced else np.full(n, 1 / n)
    table = np.zeros((n, n))
    for i in range(n):
        for coalition in range(n):
            mixed = np.where(bits[coalition], bits[i], bits)
            same = np.array([bool(label(b)) == y[i] for b in mixed])
            table[i, coalition] = np.sum(weight * same)
    copies = np.rint(weight * 240).astype(int)
    assert np.allclose(copies / copies.sum(), weight)
    return np.repeat(table, copies, axis=0)


def parity(b):
    return b.sum() % 2


def one(b):
    return b.sum() == 1


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_parity(m):
    found = intershap(game_of_bits(parity, m) if m < 5 else np.eye(32)[-1:])
    assert np.isclose(found.total, 50 * m / (m - 1))
    assert np.isclose(found.local, 50 * m / (m - 1))
    assert np.isclose(found.moebius, 100)


@pytest.mark.parametrize(
    ("label", "m", "balanced", "total", "local", "moebius"),
    [
        (one, 2, False, 100, 100, 100),
        (one, 3, False, 91.6667, 58.5938, 80),
        (one, 2, True, 100, 100, None),
        (one, 3, True, 92.6136, 59.4006, None),
        (np.all, 2, False, 33.3333, None, None),
        (np.all, 3, False, 64.2857, None, None),
    ],
)
def test_published_games(label, m, balanced, total, local, moebius):
    found = intershap(game_of_bits(label, m, balanced))
    assert abs(found.total - total) < 1e-3
    assert local is None or abs(found.local - local) < 1e-3
    assert moebius is None or abs(found.moebius - moebius) < 1e-9


def test_parts_add_up():
    table = np.random.default_rng(0).normal(size=(10, 16))
    found = intershap(table)
    off = ~np.eye(4, dtype=bool)
    assert np.isclose(found.matrix.sum(), 100)
    assert np.isclose(found.matrix[off].sum(), found.total)
    assert np.isclose(found.interactions.sum(), (table[:, -1] - table[:, 0]).mean())
    assert np.allclose(found.interactions, found.interactions.T)
    assert np.isclose(found.local, found.examples.mean())
    assert np.isclose(intershap(-3 * table + 2).total, found.total)  # scale and offset


def test_additive_games_and_constant_games():
    additive = np.array([0.0, 1.0, 2.0, 3.0])
    assert intershap(additive).total == 0
    found = intershap(np.stack([additive, np.full(4, 0.5)]))
    assert np.isnan(found.examples[1])
    assert found.local == 0
    assert np.isnan(intershap(np.full((3, 4), 0.5)).total)


def test_jax_tables_agree_with_numpy():
    table = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    ours, theirs = jax.jit(intershap)(jnp.asarray(table)), intershap(table)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.allclose(a, b, rtol=1e-4)


def test_bad_games():
    with pytest.raises(InputError, match="two or more"):
        intershap(np.zeros(2))
    with pytest.raises(InputError, match="NaN"):
        intershap(np.full(4, np.nan))


def test_games_of_models(key):
    batch = {"a": jax.random.normal(key, (50, 3)), "b": jnp.ones((50, 2))}
    modalities = {
        "a": Modality.columns(3).with_marginal(batch["a"], 20, key),
        "b": Modality.columns(2).with_marginal(batch["b"], 20, key),
    }

    def fuse(codes):
        return jnp.stack([codes["a"] + codes["b"], 0.1 * codes["a"] * codes["b"]])

    split = SplitModel(
        {"a": jax.tree_util.Partial(jnp.sum), "b": jax.tree_util.Partial(jnp.sum)},
        jax.tree_util.Partial(fuse),
    )
    whole = as_model(lambda x: fuse({n: jnp.sum(v) for n, v in x.items()}))
    intervention = FeatureGates(modalities)
    outputs = coalition_outputs(intervention, split, batch, chunk=7)
    assert outputs.shape == (50, 4, 2)
    assert np.allclose(outputs, coalition_outputs(intervention, whole, batch), atol=1e-5)
    games = modality_games(intervention, whole, batch)
    predicted = outputs[:, -1].argmax(-1)
    assert np.allclose(games, outputs[np.arange(50), :, predicted], atol=1e-5)
    first = modality_games(intervention, whole, batch, np.zeros(50, int))
    assert intershap(first).total < 1e-3  # additive on its scale
    sums = np.asarray(batch["a"]).sum(1)
    draws = np.asarray(modalities["a"].reference).sum(1)
    assert np.allclose(first[:, 2] - first[:, 3], draws.mean() - sums, atol=1e-4)


def test_link_decides(key):
    """Additive logits: no interaction before the link, some after it."""
    batch = {"a": jax.random.normal(key, (64, 1)), "b": jax.random.normal(key, (64, 1)) * 2}
    modalities = {n: Modality.columns(1).with_marginal(v, 32, key) for n, v in batch.items()}

    def logits(x):
        return jnp.stack([x["a"][0] + x["b"][0], 0.0])

    raw = modality_games(FeatureGates(modalities), as_model(logits), batch, np.zeros(64, int))
    soft = modality_games(FeatureGates(modalities), as_model(logits, "softmax"), batch)
    given = modality_games(FeatureGates(modalities), logits, batch, link="softmax")
    assert np.array_equal(given, soft)
    assert intershap(raw).total < 1e-2
    assert intershap(soft).total > 2


def test_bootstrap_covers():
    """95 % intervals of a mean hold the truth about 95 % of the time."""
    draws = jax.random.normal(jax.random.key(5), (200, 60)) + 1

    @jax.jit
    @jax.vmap
    def interval(sample, key):
        return bootstrap(jnp.mean, sample, key, resamples=300)

    low, high = interval(draws, jax.random.split(jax.random.key(6), 200))
    rate = np.mean((np.asarray(low) < 1) & (np.asarray(high) > 1))
    assert 0.88 < rate < 0.99
    with pytest.raises(InputError, match="confidence"):
        bootstrap(jnp.mean, draws[0], jax.random.key(0), confidence=95.0)
