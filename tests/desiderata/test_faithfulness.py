"""Keep and remove: closed forms, complements, brute force, and ties."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.desiderata import DEFAULTS, Faithfulness, ModelEffects, faithfulness
from mmx_jax.desiderata.holding import demands, tolerance
from mmx_jax.errors import InputError

from .worlds import (
    CANCELLING,
    DUPLICATED,
    GATES,
    LINEAR,
    XOR,
    Known,
    bare,
    batch,
    effects_of,
    one_row,
    ones,
)

run = jax.jit(faithfulness)


def known(model, x, over_all=False):
    return jax.jit(lambda x: Known(over_all)(model, x, 0, None))(x)


def judged(model, x, scores, key, joint=None):
    return demands(
        one_row(effects_of(GATES, model, x, 0)),
        one_row(run(GATES, model, scores, x, 0, key, joint=joint)),
        1.0,
        DEFAULTS,
    )


def test_curves_of_a_linear_model_are_cumulative_sums_and_complements(key):
    x = ones((1.0, 2.0, 3.0, -1.0), (2.0, 1.0, 0.5))  # parts 1, -4, 0, -3 and 1, 0, -.5
    out = run(GATES, LINEAR, known(LINEAR, x), x, 0, key)
    np.testing.assert_allclose(out.remove["a"], [0, -4, -7, -6, -6], atol=1e-5)
    np.testing.assert_allclose(
        out.remove["joint"], [0, -4, -7, -6, -5, -5.5, -5.5, -5.5], atol=1e-5
    )
    for group, total in {"a": -6.0, "b": 0.5, "joint": -5.5}.items():
        # what is kept and what is removed add up to everything
        np.testing.assert_allclose(out.keep[group] + out.remove[group], total, atol=1e-5)
    assert int(out.size["a"]) == 3
    np.testing.assert_allclose(out.parts["a"], [1.0, -7.0], atol=1e-5)


def test_necessity_is_the_largest_of_prefixes_and_signed_parts(key):
    """Opposing evidence removed together cancels; its parts don't."""
    x = ones()
    row = judged(CANCELLING, x, known(CANCELLING, x), key)["a"]
    assert row.error[0] == 0
    assert row.share[0] == pytest.approx(1.0)
    # a set that misses everything
    miss = {"a": jnp.array([0.0, 0.0, 1.0, 0.0]), "b": jnp.zeros(3)}
    assert judged(CANCELLING, x, miss, key)["a"].share[0] == 0


def test_opposing_evidence_is_removed_one_sign_at_a_time():
    """v = x1 - x2 + x3 - x4 at ones: prefixes lose at most 1, the two positive units lose 2."""
    groups = {"a": np.array([[0.0, 1, 2, 2, 2]]), "joint": np.array([[0.0, 1, 2, 2, 2]])}
    effects = bare(ModelEffects, effect={"a": np.zeros(1)}, largest=groups, keeping=groups)
    curve = np.array([[0.0, 1, 0, 1, 0]])
    tested = bare(
        Faithfulness,
        keep=dict.fromkeys(groups, curve),
        remove=dict.fromkeys(groups, curve),
        parts=dict.fromkeys(groups, np.array([[2.0, -2.0]])),
        size=dict.fromkeys(groups, np.array([4])),
    )
    row = demands(effects, tested, 1.0, DEFAULTS)["a"]
    assert row.drop[0] == 2
    assert row.share[0] == 1
    alone = bare(Faithfulness, **vars(tested) | {"parts": dict.fromkeys(groups, np.zeros((1, 2)))})
    assert demands(effects, alone, 1.0, DEFAULTS)["a"].share[0] == 0.5


def test_duplicates_named_together_are_necessary_and_named_alone_are_not_counted(key):
    x = ones()
    both = judged(DUPLICATED, x, known(DUPLICATED, x), key)["a"]
    assert both.size[0] == 2
    assert both.share[0] == pytest.approx(1.0)
    one = judged(DUPLICATED, x, {"a": jnp.array([1.0, 0, 0, 0]), "b": jnp.zeros(3)}, key)["a"]
    assert np.isnan(one.share[0])  # no single unit has an effect
    assert one.error[0] == 0


@pytest.mark.parametrize("seed", range(3))
def test_shares_by_brute_force(seed, key):
    rng = np.random.default_rng(seed)
    x = {"a": jnp.asarray(rng.normal(size=4), jnp.float32), "b": jnp.ones(3)}
    scores = {"a": jnp.asarray(rng.normal(size=4), jnp.float32), "b": jnp.ones(3)}
    row = judged(LINEAR, x, scores, key)["a"]
    parts = np.array([1.0, -2.0, 0.0, 3.0]) * np.asarray(x["a"])
    order = np.argsort(-np.abs(scores["a"]))
    held = np.cumsum(np.abs(scores["a"])[order]) / np.abs(scores["a"]).sum()
    size = int(np.argmax(held >= 0.9)) + 1
    own = order[:size]
    sets = [order[: i + 1] for i in range(size)]
    sets += [[u for u in own if scores["a"][u] > 0], [u for u in own if scores["a"][u] < 0]]
    got = max(abs(parts[list(s)].sum()) for s in sets)
    best = max(
        abs(parts[np.flatnonzero(r)].sum())
        for r in np.array(list(np.ndindex(2, 2, 2, 2)))
        if r.sum() <= size
    )
    assert row.share[0] == pytest.approx(got / best, rel=1e-4)
    assert row.error[0] == pytest.approx(abs(np.delete(parts, own).sum()), abs=1e-5)


def test_only_the_joint_test_sees_a_missing_partner(key):
    x = ones()
    half = {"a": jnp.array([0.0, 1.0, 0.0, 0.0]), "b": jnp.zeros(3)}
    rows = judged(XOR, x, half, key)
    assert rows["a"].error[0] == 0
    assert rows["a"].share[0] == 1
    assert rows["joint"].error[0] == 1  # its partner is not kept


def test_an_empty_explanation_is_not_excused(key):
    zeros = {"a": jnp.zeros(4), "b": jnp.zeros(3)}
    row = judged(CANCELLING, ones(), zeros, key)["a"]
    assert row.size[0] == 0
    assert row.share[0] == 0


def test_ties_are_broken_by_the_key(key):
    x, flat = ones(), {"a": jnp.ones(4), "b": jnp.ones(3)}
    keys = jax.random.split(key, 200)
    first = jax.jit(jax.vmap(lambda k: faithfulness(GATES, LINEAR, flat, x, 0, k).remove["a"][1]))(
        keys
    )
    # the first unit removed is any of 1, -2, 0, 3
    values, counts = np.unique(np.round(np.asarray(first), 4), return_counts=True)
    np.testing.assert_allclose(values, [-2, 0, 1, 3], atol=1e-4)
    assert counts.min() > 25
    with pytest.raises(InputError, match="breaks ties"):
        faithfulness(GATES, LINEAR, flat, x, 0, None)


def test_a_hundred_times_the_scores_is_the_same_and_all_explainers_share_a_trace(key):
    x = jax.tree.map(lambda v: v[0], batch(1, signs=False).inputs)
    scores = known(LINEAR, x)
    traced = jax.jit(chex.assert_max_traces(lambda s: faithfulness(GATES, LINEAR, s, x, 0, key), 1))
    one = traced(scores)
    chex.assert_trees_all_equal(one, traced(jax.tree.map(lambda s: 100 * s, scores)))
    other = jax.jit(jax.vmap(lambda s: faithfulness(GATES, LINEAR, s, x, 0, key)))(one_row(scores))
    chex.assert_trees_all_close(one, jax.tree.map(lambda v: v[0], other), atol=1e-6)


@pytest.mark.parametrize(("share", "count"), [(0.95, 59), (0.9, 29), (0.5, 5)])
def test_tolerance_bounds_start_where_the_textbook_says(share, count):
    """The largest of n values bounds a share p with 95 % confidence from ``1 - p**n >= .95`` on."""
    values = np.random.default_rng(0).permutation(count).astype(float)
    assert tolerance(values, share, 0.95) == count - 1
    assert np.isnan(tolerance(values[1:], share, 0.95))


def test_tolerance_bounds_cover():
    rng = np.random.default_rng(1)
    bounds = [tolerance(rng.random(100), 0.9, 0.95) for _ in range(400)]
    assert np.mean(np.array(bounds) >= 0.9) >= 0.93
