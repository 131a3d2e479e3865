"""Marks by index: uniform, pairwise independent, and fair orders made from them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from mmx_jax.explainers import sampling


def _marks(seed, players, samples):
    drawn = sampling.marks(jax.random.key(seed), players)
    return jax.vmap(drawn)(jnp.arange(samples))


def test_marks_are_uniform_over_samples_and_over_keys():
    one_key = np.asarray(sampling.uniform(_marks(0, 5, 20_000)))
    keys = jax.vmap(lambda k: sampling.marks(k, 5)(jnp.int32(3)))(
        jax.random.split(jax.random.key(1), 20_000)
    )
    for sample in (*one_key.T, *np.asarray(sampling.uniform(keys)).T):
        assert stats.kstest(sample, "uniform").pvalue > 1e-4
    assert one_key.min() >= 0
    assert one_key.max() < 1


def test_two_samples_and_two_players_are_independent_over_keys():
    keys = jax.random.split(jax.random.key(2), 20_000)
    rows = jax.vmap(lambda k: jax.vmap(sampling.marks(k, 2))(jnp.arange(17)))(keys)
    values = np.asarray(sampling.uniform(rows))  # [keys, samples, players]
    for first, second in (((0, 0), (1, 0)), ((0, 0), (16, 0)), ((3, 0), (3, 1)), ((2, 0), (9, 1))):
        a, b = values[:, *first], values[:, *second]
        table = np.histogram2d(a, b, bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(table.ravel()).pvalue > 1e-4


def test_below_has_its_share():
    marks = _marks(4, 3, 30_000)
    for share in (0.1, 0.5, 0.9):
        rate = np.mean(np.asarray(sampling.below(marks, share)))
        assert abs(rate - share) < 4.5 * np.sqrt(share * (1 - share) / marks.size)


def test_places_are_fair_orders_even_with_ties():
    places = np.asarray(jax.vmap(sampling.places)(_marks(5, 4, 24_000)))
    assert np.all(np.sort(places, 1) == np.arange(4))
    seen = {p: 0 for p in itertools.permutations(range(4))}
    for row in places:
        seen[tuple(row.tolist())] += 1
    assert stats.chisquare(list(seen.values())).pvalue > 1e-4
    tied = jnp.array([7, 7, 1, 7], jnp.uint32)
    np.testing.assert_array_equal(sampling.places(tied), [1, 2, 0, 3])


def test_chained_orders_keep_unions_together_and_are_fair():
    unions = np.array([0, 0, 1, 1])
    rows = np.asarray(jax.vmap(lambda m: sampling.chained(m, unions))(_marks(6, 6, 16_000)))
    seen = {}
    for row in rows:
        seen[tuple(row.tolist())] = seen.get(tuple(row.tolist()), 0) + 1
    assert len(seen) == 2 * 2 * 2
    for row in seen:
        assert {row[0], row[1]} in ({0, 1}, {2, 3})
    assert stats.chisquare(list(seen.values())).pvalue > 1e-4
