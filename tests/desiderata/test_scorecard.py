"""The whole way: verdicts on explanations of known quality, and what must not change a number."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.desiderata import (
    StabilityPlan,
    calibrate,
    explain_changes,
    measure,
    measure_effects,
    radii,
    scorecard,
    value_range,
)

from .worlds import (
    GATES,
    XOR,
    Fn,
    Known,
    Uniform,
    batch,
    constant,
    model_of,
    random,
    reference_detector,
)

MIXED = model_of(  # each input in one of three modes: a alone, b alone, or their product
    lambda a, b: jnp.where(a[3] > 0, a[1] * b[2], jnp.where(b[0] > 0, a[0], b[1]))
)
N = 48


def cards(model, explainers, stability=None, **settings):
    """Rows of the scorecard by name."""
    split, judged = batch(N, seed=1), batch(N, seed=2)
    before = measure_effects(GATES, model, split)
    effects = measure_effects(GATES, model, judged)
    spread = value_range(before.outputs, split.targets)
    out = {}
    for name, (explainer, joint) in explainers.items():
        _, changed = explain_changes(GATES, model, explainer, split)
        measured, _ = measure(
            GATES,
            model,
            explainer,
            judged,
            joint=joint,
            stability=stability,
            radius=radii(split.inputs),
            **settings,
        )
        out[name] = scorecard(effects, measured, calibrate(before, changed), spread)
    return out


@pytest.fixture(scope="module")
def xor():
    return cards(
        XOR,
        {
            "truth": (Known(), Known(over_all=True)),
            "hundred": (Known(factor=100.0), Known(over_all=True)),
            "uniform": (Uniform(), None),
            "random": (Fn(random), None),
            "constant": (Fn(constant), None),
            "reference detector": (Fn(reference_detector), None),
        },
        stability=StabilityPlan(examples=4, rounds=1),
        keys=2,
        relevant={
            "a": np.tile([False, True, False, False], (N, 1)),
            "b": np.tile([False, False, True], (N, 1)),
        },
    )


def test_the_truth_passes_everything(xor):
    row = xor["truth"]
    assert row["verdict"] == dict.fromkeys(("granger", "faithfulness", "stability"), "pass")
    assert row["why"] == {name: [] for name in row["verdict"]}
    assert row["truth"]["tpr"] == 1
    assert row["truth"]["fdr"] == 0
    assert row["key_variance"] == 0
    assert row["calibration"] == pytest.approx(1, rel=1e-5)
    for cell in row["stability"].values():
        assert cell["searched"] >= cell["point"]


@pytest.mark.parametrize("name", ["uniform", "random", "constant", "reference detector"])
def test_controls_fail(xor, name):
    row = xor[name]
    assert "fail" in row["verdict"].values()
    assert all(row["why"][k] for k, v in row["verdict"].items() if v != "pass")


def test_a_constant_is_perfectly_stable_and_fails_the_rest(xor):
    assert xor["constant"]["verdict"]["stability"] == "pass"
    assert xor["constant"]["verdict"]["granger"] == "fail"
    assert xor["constant"]["verdict"]["faithfulness"] == "fail"
    assert xor["random"]["key_variance"] > 0.8


def test_a_hundred_times_the_scores_changes_no_number(xor):
    def numbers(tree, path=""):
        if isinstance(tree, dict):
            return {k2: v2 for k, v in tree.items() for k2, v2 in numbers(v, f"{path}.{k}").items()}
        return {path: tree}

    one, other = numbers(xor["truth"]), numbers(xor["hundred"])
    assert one.keys() == other.keys()
    for path, value in one.items():
        if path.startswith(".calibration"):
            assert other[path] == pytest.approx(value / 100, rel=1e-4)
        elif isinstance(value, float) or (isinstance(value, list) and value):
            np.testing.assert_allclose(other[path], value, rtol=2e-3, atol=1e-5, err_msg=path)
        else:
            assert other[path] == value, path


def test_null_comes_with_a_reason_and_only_null_does(xor):
    def nulls(tree, path=""):
        if isinstance(tree, dict):
            return set().union(*(nulls(v, f"{path}.{k}" if path else k) for k, v in tree.items()))
        return {path} if tree is None else set()

    for row in xor.values():
        body = {k: v for k, v in row.items() if k != "reasons"}
        assert nulls(body) == set(row["reasons"])
        assert all(row["reasons"].values())
        json.dumps(row, allow_nan=False)


def test_single_tests_are_blind_to_a_partner_that_is_named_too_weakly():
    """On XOR the per-modality tests pass; joint and cross tests see that b lacks its partner."""

    def weak(x, key):
        return {
            "a": jnp.zeros(4).at[1].set(x["a"][1] * x["b"][2]),
            "b": jnp.zeros(3).at[2].set(0.01 * x["b"][2]),
        }

    row = cards(XOR, {"weak": (Fn(weak), None)})["weak"]
    for m in "ab":
        assert row["sufficiency"][m]["holds"] == 1
        assert row["necessity"][m]["holds"] == 1
    assert row["sufficiency"]["joint"]["holds"] == 0
    assert row["granger"]["b<-a"]["violation_rate"] == 1
    assert row["verdict"]["faithfulness"] == row["verdict"]["granger"] == "fail"


def test_mixed_inputs_and_scores_that_are_not_finite():
    def broken(x, k):
        return {"a": x["a"] / (x["a"][0] + 1), "b": x["b"]}

    rows = cards(MIXED, {"truth": (Known(), Known(over_all=True)), "broken": (Fn(broken), None)})
    assert rows["truth"]["verdict"]["granger"] == "pass", rows["truth"]["why"]
    assert rows["truth"]["applicable"]["joint"] == 1
    assert 0 < rows["truth"]["unused"]["a"] < 1
    assert rows["broken"]["verdict"]["granger"] == "fail"
    assert rows["broken"]["verdict"]["faithfulness"] == "fail"
    assert "not finite" in rows["broken"]["reasons"]["granger.a<-a.alpha"]
    json.dumps(rows, allow_nan=False)


def test_chunks_agree(xor):
    one, other = xor["truth"], cards(XOR, {"truth": (Known(), Known(True))}, chunk=7)["truth"]
    for name in ("granger", "faithfulness"):
        assert one["verdict"][name] == other["verdict"][name]
    for group in ("a", "joint"):
        for column in ("sufficiency", "necessity"):
            a, b = (row[column][group]["area"] for row in (one, other))
            assert a == pytest.approx(b, rel=1e-5)
    for name, cell in one["granger"].items():
        assert cell["alpha"] == pytest.approx(other["granger"][name]["alpha"], rel=1e-5)
