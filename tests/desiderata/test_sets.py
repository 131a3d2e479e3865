"""Set searches against brute force over all sets."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.desiderata.sets import enumerated, greedy, removed_sets


def brute(effect, units, necessity):
    """Definitions, set by set."""
    sets = [frozenset(c) for k in range(units + 1) for c in itertools.combinations(range(units), k)]
    size = {s: abs(effect(s)) for s in sets}
    largest = [max(size[s] for s in sets if len(s) <= k) for k in range(units + 1)]
    keeping = [np.inf] * (units + 1)
    for s in sets:
        inside = max(size[t] for t in sets if t <= s)
        if largest[len(s)] > 0 and inside >= necessity * largest[len(s)]:
            rest = frozenset(range(units)) - s
            keeping[len(s)] = min(keeping[len(s)], size[rest])
    return np.array(largest), np.array(keeping)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("units", [1, 3, 5])
def test_enumeration_is_the_definition(seed, units):
    table = np.random.default_rng(seed).normal(size=1 << units).astype(np.float32)
    table[0] = 0
    index = {frozenset(np.flatnonzero(r)): i for i, r in enumerate(removed_sets(units))}
    largest, keeping = brute(lambda s: table[index[s]], units, 0.8)
    found = enumerated(jnp.asarray(table), 0.8)
    np.testing.assert_allclose(found.largest, largest, rtol=1e-6)
    np.testing.assert_allclose(found.keeping, keeping, rtol=1e-6)


GAMES = {
    "additive": lambda r: r @ jnp.array([3.0, -1.0, 0.5, 0.0, 2.0, 0.0]),
    "duplicates": lambda r: 2.0 * (r[1] * r[4]) + r[0],
    "cancelling": lambda r: r[0] - r[5],
    "product": lambda r: 1.0 - (1 - r[2]) * (1 - r[3]),
    "three copies": lambda r: r[1] * r[3] * r[5],
}


@pytest.mark.parametrize("name", GAMES)
def test_greedy_both_ways_is_exact_on_structured_games(name):
    def effect(removed, _):
        return GAMES[name](removed.astype(jnp.float32))

    table = jax.vmap(lambda r: effect(r, None))(jnp.asarray(removed_sets(6)))
    exact = enumerated(table, 0.8)
    search = jax.jit(lambda: greedy(effect, np.ones((1, 6), bool), necessity=0.8))()
    np.testing.assert_allclose(search.largest[0], exact.largest, rtol=1e-6)
    smallest = int(np.argmax(np.asarray(exact.keeping) < 1e-6))
    assert int(np.argmax(np.asarray(search.keeping[0]) < 1e-6)) == smallest


@pytest.mark.parametrize("seed", range(4))
def test_greedy_never_claims_more_than_there_is(seed):
    table = jax.random.normal(jax.random.key(seed), (64,)).at[0].set(0.0)
    weights = 1 << jnp.arange(6)
    search = greedy(lambda r, _: table[jnp.sum(r * weights)], np.ones((1, 6), bool), necessity=0.8)
    exact = enumerated(table, 0.8)
    assert np.all(np.asarray(search.largest[0]) <= np.asarray(exact.largest) + 1e-6)
    # the ends of every chain are known exactly
    np.testing.assert_allclose(search.largest[0, 1], exact.largest[1])


def test_several_universes_in_one_search_agree_with_one_each():
    universe = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]], bool)
    weights = jnp.array([1.0, -2.0, 0.5, 4.0, 0.0, -1.0])
    both = greedy(lambda r, c: r @ weights * c, universe, jnp.array([1.0, 2.0, 3.0]), 0.8)
    for i in range(3):
        one = greedy(lambda r, c, i=i: r @ weights * (i + 1), universe[i : i + 1], None, 0.8)
        np.testing.assert_allclose(both.largest[i], one.largest[0])
        np.testing.assert_allclose(both.keeping[i], one.keeping[0])
