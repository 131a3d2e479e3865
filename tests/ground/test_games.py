"""Games: values, dividends and Shapley values against independent definitions."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_jax import games
from mmx_jax.errors import InputError

pytestmark = pytest.mark.fast


def shapley_by_permutations(table: np.ndarray, n: int) -> np.ndarray:
    """The definition: the mean marginal contribution over all orders of arrival."""
    phi = np.zeros(n)
    for order in itertools.permutations(range(n)):
        seen = 0
        for player in order:
            phi[player] += table[seen | 1 << player] - table[seen]
            seen |= 1 << player
    return phi / math.factorial(n)


def dividends_by_definition(table: np.ndarray, n: int) -> np.ndarray:
    """The alternating sum over subsets, one coalition at a time."""
    out = np.zeros(1 << n)
    for s in range(1 << n):
        for t in range(1 << n):
            if t & s == t:
                out[s] += (-1) ** bin(s ^ t).count("1") * table[t]
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_equal_to_the_definitions(x64, n):
    table = np.random.default_rng(n).normal(size=1 << n)
    assert np.allclose(games.shapley_values(table), shapley_by_permutations(table, n), atol=1e-12)
    assert np.allclose(games.moebius(table), dividends_by_definition(table, n), atol=1e-12)
    streamed = sum(games.shapley_coefficients(jnp.asarray(s), n) * table[s] for s in range(1 << n))
    assert np.allclose(streamed, shapley_by_permutations(table, n), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_axioms(n, seed):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(2, 1 << n))
        phi = games.shapley_values(a)
        assert np.isclose(phi.sum(), a[-1] - a[0])  # efficiency
        both = games.shapley_values(jnp.stack([a, 2 * b + a]))
        assert np.allclose(both[1], phi + 2 * games.shapley_values(b))  # linearity
        assert np.allclose(games.inverse_moebius(games.moebius(a)), a)
        # dummy: player 0 always adds exactly 3
        present = np.arange(1 << n) & 1
        dummy = a[np.arange(1 << n) & ~1] + 3 * present
        assert np.isclose(games.shapley_values(dummy)[0], 3)


def test_symmetric_players_share_alike(x64):
    sizes = np.array([bin(s).count("1") for s in range(16)])
    assert np.allclose(games.shapley_values(sizes**2.0), 4.0)


def test_sixteen_players_in_single_precision():
    sizes = np.array([bin(s).count("1") for s in range(1 << 16)], np.float32)
    assert np.allclose(games.shapley_values(sizes), 1.0, atol=1e-4)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros(1), np.zeros((4, 6))])
def test_tables_that_are_no_game(bad):
    with pytest.raises(InputError, match=r"2\*\*n"):
        games.moebius(bad)


def test_too_many_players_name_the_way_out():
    with pytest.raises(InputError, match="sample"):
        games.shapley_values(np.zeros(1 << 17, np.float32))
