"""Interaction indices against their definitions, spelled out, and against shapiq."""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.interactions import (
    banzhaf_interactions,
    harsanyi,
    harsanyi_share,
    shapley_interactions,
    subsets,
)


def derivative(table, s, t):
    """``D_S(T)``, the alternating sum over subsets of S."""
    total = 0.0
    for size in range(len(s) + 1):
        for inner in itertools.combinations(s, size):
            total += (-1) ** (len(s) - size) * table[sum(1 << p for p in (*inner, *t))]
    return total


def brute(table, s, n, weight):
    """``sum_T weight(|T|) D_S(T)`` over T without S."""
    rest = [p for p in range(n) if p not in s]
    return sum(
        weight(size) * derivative(table, s, t)
        for size in range(len(rest) + 1)
        for t in itertools.combinations(rest, size)
    )


def sii(table, s, n):
    k, f = len(s), math.factorial
    return brute(table, s, n, lambda t: f(t) * f(n - t - k) / f(n - k + 1))


def stii(table, s, n, order):
    if len(s) < order:
        return derivative(table, s, ())
    return brute(table, s, n, lambda t: order / n / math.comb(n - 1, t))


def k_sii(table, s, n, order):
    """The recursion of Bordt and von Luxburg, one order at a time."""
    bernoulli = [1.0, -1 / 2, 1 / 6, 0.0, -1 / 30]
    value = sii(table, s, n)
    for level in range(len(s) + 1, order + 1):
        rest = [p for p in range(n) if p not in s]
        larger = itertools.combinations(rest, level - len(s))
        value += bernoulli[level - len(s)] * sum(sii(table, (*s, *r), n) for r in larger)
    return value


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_equal_to_the_definitions(n):
    table = np.random.default_rng(n).normal(size=1 << n)
    order = min(n, 3 if n < 8 else 2)
    ours = {index: shapley_interactions(table, order, index) for index in ("SII", "k-SII", "STII")}
    banzhaf, dividends = banzhaf_interactions(table, order), harsanyi(table)
    for s in subsets(n, order):
        assert abs(ours["SII"][s] - sii(table, s, n)) < 1e-9
        assert abs(ours["k-SII"][s] - k_sii(table, s, n, order)) < 1e-9
        assert abs(ours["STII"][s] - stii(table, s, n, order)) < 1e-9
        assert abs(banzhaf[s] - brute(table, s, n, lambda t, s=s: 2.0 ** (len(s) - n))) < 1e-9
        assert abs(dividends[s] - derivative(table, s, ())) < 1e-9
    assert all(o.values.dtype == np.float64 for o in ours.values())


@pytest.mark.parametrize("index", ["SII", "k-SII", "STII", "BII", "Moebius"])
def test_equal_to_shapiq(index):
    shapiq = pytest.importorskip("shapiq")
    n, order = 6, 3
    table = np.random.default_rng(0).normal(size=1 << n)

    def game(coalitions):
        return table[coalitions.astype(int) @ (1 << np.arange(n))]

    theirs = shapiq.ExactComputer(game, n_players=n)(index, n if index == "Moebius" else order)
    if index == "BII":
        ours = banzhaf_interactions(table, order)
    elif index == "Moebius":
        ours = harsanyi(table, order)
    else:
        ours = shapley_interactions(table, order, index)
    for s in subsets(n, order):
        assert abs(ours[s] - theirs[s]) < 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_axioms(n, order, seed):
    order = min(order, n)
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 1 << n))
    for index in ("k-SII", "STII"):  # efficiency
        total = shapley_interactions(a, order, index).values.sum()
        assert np.isclose(total, a[-1] - a[0])
    for index in ("SII", "k-SII", "STII"):  # linearity, over leading axes too
        both = shapley_interactions(np.stack([[a], [a + 2 * b]]), order, index).values
        assert np.allclose(both[1] - both[0], 2 * shapley_interactions(b, order, index).values)
    # player 0 always adds 3: it interacts with nobody
    present = np.arange(1 << n) & 1
    dummy = a[np.arange(1 << n) & ~1] + 3 * present
    for found in (shapley_interactions(dummy, order, "SII"), banzhaf_interactions(dummy, order)):
        assert np.isclose(found[0], 3)
        assert all(abs(found[s]) < 1e-9 for s in found.subsets if 0 in s and len(s) > 1)


def test_additive_games_have_no_interaction():
    weights = np.array([1.0, -2.0, 0.5, 4.0])
    table = ((np.arange(16)[:, None] >> np.arange(4)) & 1) @ weights
    found = shapley_interactions(table)
    assert np.allclose(found.of_size(1), weights)
    assert np.allclose(found.of_size(2), 0, atol=1e-12)
    assert float(harsanyi_share(table)) < 1e-10


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_parity_is_all_interaction(m):
    present = np.arange(1 << m)
    assert np.isclose(harsanyi_share((present == (1 << m) - 1) * 1.0), 100)


def test_matrix_and_reading():
    table = np.random.default_rng(1).normal(size=(3, 16))
    found = shapley_interactions(table)
    assert found.matrix().shape == (3, 4, 4)
    assert np.array_equal(found.matrix()[:, 1, 3], found[3, 1])
    assert np.array_equal(found.matrix()[:, 2, 2], found[2])
    with pytest.raises(InputError, match="coalition"):
        found[0, 1, 2]
    with pytest.raises(InputError, match="order"):
        shapley_interactions(table, 1).matrix()


def test_jit_equals_eager_and_traces_once(x64):
    table = jnp.asarray(np.random.default_rng(2).normal(size=(4, 32)))

    @jax.jit
    @chex.assert_max_traces(1)
    def run(t):
        return shapley_interactions(t, 2, "k-SII")

    expected = shapley_interactions(np.asarray(table), 2, "k-SII").values
    assert np.allclose(run(table).values, expected, atol=1e-12)
    assert np.allclose(run(table + 1).values, expected, atol=1e-12)
    one = jax.vmap(lambda t: shapley_interactions(t, 2, "k-SII").values)(table)
    assert np.allclose(one, expected, atol=1e-12)


def test_sixteen_players_in_single_precision():
    n = 16
    size = ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1).sum(1)
    found = shapley_interactions(jnp.asarray(size**2, jnp.float32))
    # |S|^2 = sum_i 1 + 2 sum_{i<j} 1
    assert np.allclose(found.of_size(2), 2.0, atol=1e-2)
    assert np.allclose(found.of_size(1), 16.0, atol=1e-2)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.zeros(3), r"2\*\*n"),
        (np.array([0.0, np.nan, 0.0, 1.0]), "NaN"),
        (np.zeros(1 << 17), "SampledPairs"),
    ],
)
@pytest.mark.parametrize("measure", [shapley_interactions, banzhaf_interactions, harsanyi])
def test_bad_games(measure, values, match):
    with pytest.raises(InputError, match=match):
        measure(values)


def test_bad_settings():
    with pytest.raises(InputError, match="order"):
        shapley_interactions(np.zeros(4), 3)
    with pytest.raises(UnknownNameError, match="did you mean 'k-SII'"):
        shapley_interactions(np.zeros(4), 2, "kSII")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("values", "message"),
    [(np.zeros((0, 4)), "give at least one game"), (np.zeros(4, complex), "give real numbers")],
)
def test_what_is_no_game_is_told(values, message):
    with pytest.raises(InputError, match=message):
        shapley_interactions(values)


def test_players_may_be_numpy_integers():
    found = shapley_interactions(np.array([0.0, 1.0, 2.0, 7.0]))
    assert found[np.int64(1)] == found[1] == 4
