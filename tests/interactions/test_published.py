"""The reproductions: exact numbers, and generators and networks that are what they claim to be."""

import dataclasses
import importlib
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.common import Run
from experiments.published import exact_tables, pid_continuous
from experiments.published.choices import as_released, confidence, scores
from experiments.published.common import in_order, near
from experiments.published.hdxor import SETTINGS, Scale, f1, make_data, train
from experiments.published.networks import Networks, Options
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.interactions import all_pairs, emap
from mmx_jax.model import IDENTITY
from mmx_jax.runs import read_json, write_json

TINY = Scale(examples=600, epochs=4, learning_rate=1e-3, batch=60, draws=10)


def test_every_exact_number():
    outcome = exact_tables.experiment(Run())
    assert len(outcome.claims) > 55
    assert [c["claim"] for c in outcome.claims if not c["passed"]] == []


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.mark.parametrize(
    "name", ["intershap_hdxor", "emap", "shape", "pid_continuous", "selection"]
)
def test_a_quick_run_of_every_script(name, networks, tmp_path):
    """Numbers of a quick run mean nothing; every claim and table must be there and be written."""
    script = importlib.import_module(f"experiments.published.{name}")
    shared = name in ("intershap_hdxor", "emap", "shape")
    run = Options(quick=True, networks=networks) if shared else Run(quick=True)
    outcome = script.experiment(run)
    full = read_json(Path(script.__file__).parent / "results" / f"{name}.json")
    assert outcome.claims
    assert set(full["tables"]) <= set(outcome.tables)  # what is committed can be made again
    for title, rows in full["tables"].items():
        assert {frozenset(r) for r in outcome.tables[title]} == {frozenset(row) for row in rows}
    write_json(tmp_path / "results.json", {"claims": outcome.claims, "tables": outcome.tables})
    assert ("command", f"python -m experiments.published.{name} --quick --seed 0") in [
        (row["what"], row["value"]) for row in outcome.tables["made with"]
    ]


def test_networks_are_found_again_and_belong_to_their_source(tmp_path, monkeypatch):
    monkeypatch.setattr(Options, "scale", TINY)
    kept = Networks(Options(networks=tmp_path / "kept"))
    data, first = kept("uniqueness", "late", 3)
    monkeypatch.setattr("experiments.published.networks.train", None)  # not trained again
    _, again = Networks(Options(networks=tmp_path / "kept"))("uniqueness", "late", 3)
    assert list(again) == ["25%", "50%", "75%", "last", "best"]
    for name, model in first.items():
        for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(again[name]), strict=True):
            assert np.array_equal(a, b)
    assert f1(again["last"], data) == f1(first["last"], data)
    monkeypatch.setattr(Options, "scale", dataclasses.replace(TINY, epochs=8))
    with pytest.raises(InputError, match="holds a run with another epochs"):
        Networks(Options(networks=tmp_path / "kept"))


def test_claims_can_fail():
    assert near("x", {0: 1.0, 1: 3.0}, 2.0, 0.1)["passed"]
    assert not near("x", {0: 1.0}, 2.0, 0.1)["passed"]
    assert in_order("x", {"a": 2.0, "b": 1.0})["passed"]
    assert not in_order("x", {"a": 1.0, "b": 2.0})["passed"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_generator(setting):
    data = make_data(setting, 0, 1000)
    assert [len(part[1]) for part in (data.train, data.valid, data.test)] == [700, 150, 150]
    assert {n: x.shape[1] for n, x in data.test[0].items()} == {"m0": 200, "m1": 100}
    again = make_data(setting, 0, 1000)
    assert np.array_equal(data.test[0]["m1"], again.test[0]["m1"])
    # stratified: each split has the label's share
    shares = [part[1].mean() for part in (data.train, data.valid, data.test)]
    assert np.ptp(shares) < 0.01


def test_three_modalities_are_balanced():
    data = make_data("synergy", 3, 2000, modalities=3)
    assert abs(data.train[1].mean() - 0.5) < 0.01
    assert data.train[0]["m2"].shape == (1400, 150)
    with pytest.raises(UnknownNameError, match="setting"):
        make_data("xor", 0, 100)


def test_frozen_encoders_do_not_move():
    data = make_data("uniqueness", 0, TINY.examples)
    still = dataclasses.replace(TINY, learning_rate=0.0)
    start = train(data, "late", 0, still)["last"]
    frozen, trained = (train(data, "late", 0, TINY, f)["last"] for f in (True, False))
    leaves = jax.tree.leaves(start.encoders)
    for a, b in zip(leaves, jax.tree.leaves(frozen.encoders), strict=True):
        assert np.array_equal(a, b)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(leaves, jax.tree.leaves(trained.encoders), strict=True)
    )
    assert not np.array_equal(start.fuse.args[0][0]["w"], frozen.fuse.args[0][0]["w"])


def test_rows_of_the_released_code_give_the_same_score_up_to_sampling():
    data = make_data("redundancy", 0, TINY.examples)
    model = train(data, "early", 0, TINY)["last"]
    found, again = (as_released(model, data, 400, seed) for seed in (0, 1))
    assert abs(float(found.total) - float(again.total)) < 3
    assert abs(float(found.total) - float(scores(model, data, 90, 0)[0].total)) < 6
    whole = np.asarray(jax.jit(jax.vmap(model))(data.test[0])).max(-1)
    base = np.asarray(jax.jit(jax.vmap(model))(data.valid[0])).mean(0)
    best = np.asarray(jax.jit(jax.vmap(model))(data.test[0])).argmax(-1)
    # efficiency: interactions sum to what all modalities move
    assert np.isclose(found.interactions.sum(), np.mean(whole - base[best]), atol=1e-6)
    assert np.isclose(confidence(model, data), 100 * whole.mean(), atol=1e-4)


def test_late_fusion_is_additive_before_the_link():
    data = make_data("uniqueness", 0, TINY.examples)
    model = train(data, "late", 0, TINY)["last"]
    inputs = {n: x[:20] for n, x in data.test[0].items()}
    raw = all_pairs(dataclasses.replace(model, link=IDENTITY), inputs, "m0")
    own = raw[np.arange(20), np.arange(20)]
    assert np.allclose(emap(raw), own, atol=1e-4)
    early = train(data, "early", 0, TINY)["last"]
    raw = all_pairs(dataclasses.replace(early, link=IDENTITY), inputs, "m0")
    assert np.abs(emap(raw) - raw[np.arange(20), np.arange(20)]).max() > 1e-3
    assert 0 <= f1(early, data) <= 100


def test_continuous_generator():
    x1, x2, y = pid_continuous.generate("redundancy", 2000, 4, 0)
    assert x1.shape == x2.shape == (2000, 64)
    assert np.bincount(y).tolist() == [500] * 4
    shared = np.abs(np.corrcoef(x1[:, 40], x2[:, 40])[0, 1])
    own = np.abs(np.corrcoef(x1[:, 5], x2[:, 5])[0, 1])
    assert shared > 0.99
    assert own < 0.2
    assert abs(np.corrcoef(x1[:, 40:].sum(1), y)[0, 1]) > 0.5
