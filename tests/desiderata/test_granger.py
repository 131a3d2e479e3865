"""Granger influence: frontier, rates, over-claims and calibration in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.desiderata import DEFAULTS, Changes, calibrate, changes, explained, value_range
from mmx_jax.desiderata.effects import ModelEffects
from mmx_jax.desiderata.granger import FRONTIER, frontier, granger, granger_failures, normaliser
from mmx_jax.desiderata.undefined import Undefined
from mmx_jax.errors import InputError

from .worlds import GATES, LINEAR, Fn, Known, bare, batch, one_row, ones


def effects_and_changes(df, interaction, d_mm, d_nm, inside=None):
    """Two modalities of two units, whose figures are given per example."""
    df, interaction = np.asarray(df), np.asarray(interaction)
    stack = lambda x: np.stack([np.zeros_like(x), x, x], 1)  # noqa: E731
    off = ["a<-b", "b<-a"]
    effects = bare(
        ModelEffects,
        effect={"a": df, "b": df},
        interaction=dict.fromkeys(off, interaction),
        unit_interaction={k: np.stack([interaction, 0 * interaction], 1) for k in off},
        set_interaction=dict.fromkeys(off, interaction),
        largest={"a": stack(df), "b": stack(df), "joint": stack(df)},
    )
    inside = np.asarray(d_nm) if inside is None else np.asarray(inside)
    units = {
        k: np.stack([inside, np.asarray(d_nm) - inside], 1)
        if k in off
        else np.stack([np.asarray(d_mm), 0 * np.asarray(d_mm)], 1)
        for k in ("a<-a", "a<-b", "b<-a", "b<-b")
    }
    return effects, bare(Changes, units=units)


def test_frontier_is_the_least_slack_that_makes_every_input_hold():
    rng = np.random.default_rng(0)
    df, de = rng.random(30), rng.random(30)
    beta = frontier(df, de)
    for alpha, b in zip(FRONTIER, beta, strict=True):
        assert np.all(de >= alpha * df - b - 1e-12)
        if b > 0:
            assert np.any(de < alpha * df - 0.999 * b)
    np.testing.assert_allclose(frontier(df, 0.3 * df)[-1], 0.7 * df.max())


def test_figures_in_closed_form():
    df = np.array([1.0, 0.5, 0.8, 0.0, 0.01])
    de = np.array([1.0, 0.1, 0.39, 0.2, 0.1])
    effects, changed = effects_and_changes(df, 0.5 * df, de, 0.5 * de, 0.3 * de)
    row = granger(effects, changed, 1.0, 1.0, DEFAULTS)
    own, cross = row["a<-a"], row["a<-b"]
    assert own["active"] == 3
    assert own["inactive"] == 2
    assert own["alpha"] == pytest.approx(0.2)
    assert own["alpha_q05"] == pytest.approx(np.quantile([1.0, 0.2, 0.4875], 0.05))
    # .1 < .5 * .5 - .02, but .39 >= .5 * .8 - .02
    assert own["violation_rate"] == pytest.approx(1 / 3)
    # exact binomial bounds of 1 in 3, from tables
    np.testing.assert_allclose(own["violation_interval"], [0.0084, 0.9057], atol=1e-4)
    mass = normaliser(effects, 1.0, DEFAULTS)
    assert mass == pytest.approx(np.mean([1.0, 0.5, 0.8]))
    assert own["overclaim"] == pytest.approx(0.15 / mass)
    assert isinstance(own["unit_overclaim"], Undefined)
    # on inputs with an interaction, .2 of dE lies on the unit that has none
    assert cross["unit_overclaim"] == pytest.approx(0.2 * np.mean([1.0, 0.1, 0.39]) / mass)
    assert cross["overclaim"] == pytest.approx(0.5 * 0.15 / mass)
    ranks = [5, 3, 4, 1, 2], [5, 1.5, 4, 3, 1.5]
    assert own["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-5)


def test_the_larger_mean_of_effects_and_interactions_is_the_unit_of_overclaims():
    effects, _ = effects_and_changes([0.0, 0.0], [0.6, 0.8], [0.0, 0.0], [0.0, 0.0])
    assert normaliser(effects, 1.0, DEFAULTS) == pytest.approx(0.7)  # pure redundancy
    effects, _ = effects_and_changes([0.0], [0.0], [0.0], [0.0])
    assert np.isnan(normaliser(effects, 1.0, DEFAULTS))


def test_units_without_interaction_are_looked_at_where_modalities_cancel():
    """I_ab = 0 because units oppose each other; a change of units that don't interact counts."""
    effects, changed = effects_and_changes(
        [1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.9, 0.9], [0.0, 0.0]
    )
    effects.set_interaction.update({k: np.array([0.6, 0.6]) for k in effects.set_interaction})
    row = granger(effects, changed, 1.0, 1.0, DEFAULTS)
    assert row["a<-b"]["active"] == row["a<-b"]["inactive"] == 0
    assert row["a<-b"]["unit_overclaim"] == pytest.approx(0.9)
    assert any("unit overclaim" in why for why in granger_failures(row, DEFAULTS))


@pytest.mark.parametrize("noise", [0.0, 3e-8])
def test_rounding_of_sums_that_never_change_is_no_calibration(noise):
    effects = bare(ModelEffects, effect={"a": np.ones(4)})
    moved = bare(
        Changes,
        signed={"a": np.full(4, noise)},
        norm={"a": np.ones(4)},
        finite=np.ones(4, bool),
    )
    found = calibrate(effects, moved)
    assert np.isnan(found.scale)
    assert "never" in str(found.reason) or "no modality" in str(found.reason)


def test_nothing_active_is_said_and_is_no_failure():
    effects, changed = effects_and_changes([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0])
    row = granger(effects, changed, 1.0, 1.0, DEFAULTS)
    assert isinstance(row["a<-a"]["violation_rate"], Undefined)
    assert "none of the inputs" in row["a<-a"]["alpha"].reason
    assert granger_failures(row, DEFAULTS) == []


@pytest.mark.parametrize(
    ("column", "changes_"),
    [
        ("violation rate", ([0.0] * 4, [1.0, 1.0, 0.0, 0.0], None)),
        ("a<-a: overclaim", ([1.0, 1.0, 0.5, 0.5], [1.0, 1.0, 0.0, 0.0], None)),
        ("a<-b: overclaim", ([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.5, 0.5], None)),
        ("unit overclaim", ([1.0, 1.0, 0.0, 0.0], [1.3, 1.3, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0])),
    ],
)
def test_each_demand_can_fail_alone(column, changes_):
    active = [1.0, 1.0, 0.0, 0.0]
    good = granger(*effects_and_changes(active, active, active, active), 1.0, 1.0, DEFAULTS)
    assert granger_failures(good, DEFAULTS) == []
    bad = granger(*effects_and_changes(active, active, *changes_), 1.0, 1.0, DEFAULTS)
    assert any(column in line for line in granger_failures(bad, DEFAULTS))


def test_cancelling_evidence_cancels_in_calibration_too():
    data = batch(20, signs=False)
    known = jax.jit(jax.vmap(lambda x: changes(explained(GATES, LINEAR, Known(), x, 0, None))))(
        data.inputs
    )
    effect = {
        "a": jnp.abs(data.inputs["a"] @ jnp.array([1.0, -2.0, 0.0, 3.0])),
        "b": jnp.abs(data.inputs["b"] @ jnp.array([0.5, 0.0, -1.0])),
    }
    found = calibrate(bare(ModelEffects, effect=effect), known)
    assert found.scale == pytest.approx(1.0, rel=1e-5)
    assert found.per_modality == pytest.approx({"a": 1.0, "b": 1.0}, rel=1e-4)


def test_zero_over_zero_and_infinity_are_reasons_not_numbers():
    silent = one_row(
        changes(
            explained(
                GATES,
                LINEAR,
                Fn(lambda x, k: {"a": jnp.ones(4), "b": jnp.ones(3)}),
                ones(),
                0,
                None,
            )
        )
    )
    some = bare(ModelEffects, effect={"a": np.ones(1), "b": np.zeros(1)})
    none = bare(ModelEffects, effect={"a": np.zeros(1), "b": np.zeros(1)})
    assert "though the model" in calibrate(some, silent).reason
    assert "nor does the model" in calibrate(none, silent).reason
    assert np.isnan(calibrate(none, silent).scale)


def test_marginal_ablations_average_the_explanation_over_draws():
    draws = jax.random.normal(jax.random.key(1), (3, 4))
    gates = dataclasses.replace(
        GATES,
        modalities={
            "a": GATES.modalities["a"].with_marginal(draws, 3, jax.random.key(0)),
            "b": GATES.modalities["b"],
        },
    )
    square = Fn(lambda x, k: {"a": x["a"] ** 2, "b": x["b"]})
    out = explained(gates, LINEAR, square, ones(), 0, None)
    np.testing.assert_allclose(out.ablated["a"]["a"], (draws**2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(out.ablated["a"]["b"], 1.0)
    np.testing.assert_allclose(out.ablated["b"]["b"], 0.0)


def test_range_is_the_widest_over_targets_in_use():
    outputs = np.array([[0.0, 5.0, 0.0], [1.0, 7.0, 90.0], [0.5, 6.0, 0.0]])
    assert value_range(outputs, np.array([0, 1, 0])) == 2.0
    with pytest.raises(InputError, match="at least 2"):
        value_range(outputs[:1], np.array([0]))
    with pytest.raises(InputError, match="same value"):
        value_range(outputs[[0, 0]], np.array([0, 0]))
