"""The command ``mmx certify``: a matrix, a page, and one line per mistake."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.cli import bounds
from mmx_jax.cli.bounds import Certificates, certificates, certify_column
from mmx_jax.cli.main import main
from mmx_jax.cli.own import load_data, load_model
from mmx_jax.cli.subject import Subject
from mmx_jax.report.certificate import render_certificates
from mmx_jax.typing import record, static

REAL = ["--model", "own.py:real", "--data", "two.npz", "--quick", "--out", "out"]


@pytest.fixture
def real(place):
    """Data for a model of two real modalities."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(6, 3)).astype(np.float32)
    np.savez(place / "two.npz", table=table, sound=rng.normal(size=(6, 2, 1)).astype(np.float32))
    return place


def test_a_model_of_ones_own_is_certified(real, capsys):
    command = ["certify", *REAL, "--explainers", "saliency", "--radius", "table=.05"]
    assert main(command) == 0
    results = json.loads((real / "out" / "results.json").read_text())
    assert results["schema"] == "certify/1"
    assert results["radius"] == {"sound": 0.0, "table": 0.05}
    entry = results["explainers"]["saliency"]
    assert entry["reason"] is None, entry["reason"]
    assert entry["lifted"]
    assert sorted(entry["pairs"]) == [f"{n}<-{m}" for n in REALS for m in REALS]
    for cell in entry["pairs"].values():
        assert cell["point"] <= cell["searched"] <= cell["certified"] <= 1.2 * cell["searched"]
        assert not cell["vacuous"]
        assert cell["curve"]["factor"] == [0.5, 1.0]
        assert cell["curve"]["certified"] == sorted(cell["curve"]["certified"])
    page = (real / "out" / "report.html").read_text()
    assert "table&lt;-sound" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    printed = capsys.readouterr().out
    assert "certified" in printed
    assert "report.html" in printed


REALS = ("sound", "table")


def subject_of():
    """The own model and data as the commands hold them."""
    model, modalities = load_model("own.py:real")
    inputs, _ = load_data("two.npz", modalities)
    target = np.zeros(6, np.int32)
    return Subject("own", "own", model, modalities, inputs, inputs, target, target, ("", ""))


@record
class Sorting:
    """An explainer that has no derivative rule."""

    evaluations: int = static(default=0)

    def __call__(self, model, inputs, target, key):
        del model, target, key
        return {n: jnp.sort(x.ravel()) for n, x in inputs.items()}


def test_what_can_not_be_certified_is_said(real):
    subject = subject_of()
    wanted = Certificates({"sound": 0.0, "table": 0.1}, 2, "auto", 1, 0, True)
    found = certificates(subject, Sorting(), wanted)
    assert "'sort'" in found["reason"]
    results = {
        "task": "own", "model": "own", "link": "identity", "seed": 0, "radius": wanted.radius,
        "norm": "2", "examples": 1, "explainers": {"sorting": found},
    }  # fmt: skip
    assert "not certified: fn or its derivative uses &#39;sort&#39;" in render_certificates(
        results, "mmx certify"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--radius", "-1"], "finite number, 0 or above"),
        (["--radius", "inf"], "finite number, 0 or above"),
        (["--radius", "table=x"], "'x'"),
        (["--radius", "tabel=.1"], "did you mean 'table'"),
        (["--radius", "note=.1"], "holds integers"),
        (["--radius", ".1,note=.1"], "NAME=NUMBER"),
        (["--method", "ful"], "did you mean 'full'"),
        (["--examples", "0"], "positive"),
        (["--explainers", "all"], "name those"),
        (["--explainers", "salience"], "did you mean 'saliency'"),
    ],
)
def test_mistakes_are_told_in_one_line(place, capfd, options, said):
    own = ["--model", "own.py:build", "--data", "own.npz", "--out", "out"]
    assert main(["certify", *own, *options]) == 2
    lines = [x for x in capfd.readouterr().err.splitlines() if x.startswith("mmx: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (place / "out").exists()


def test_the_certified_column_of_an_audit(real, monkeypatch):
    cell = {"certified": 2.0, "reason": None}
    cells = {"a<-a": cell, "a<-b": {"certified": None, "reason": "no finite bound"}}
    found = {"method": "full", "lifted": True, "reason": None, "pairs": cells}
    monkeypatch.setattr(bounds, "certificates", lambda *_: found)
    row = {"certified": None}
    paths = [f"stability.{pair}.certified" for pair in ("a<-a", "a<-b", "b<-a")]
    entry = {
        "calibration": 0.5,
        "stability": {pair: dict(row) for pair in ("a<-a", "a<-b", "b<-a")},
        "reasons": dict.fromkeys(paths, "on demand"),
    }
    results = {"explainers": {"one": entry, "two": {"stability": None}}}
    wanted = Certificates({"a": 0.1}, 2, "auto", 1, 0, True)
    certify_column(results, subject_of(), {"one": Sorting()}, wanted)
    assert entry["stability"]["a<-a"]["certified"] == 1.0
    assert list(entry["reasons"]) == paths[1:]
    assert entry["reasons"][paths[1]] == "no finite bound"
    assert "can't move a little" in entry["reasons"][paths[2]]


@pytest.mark.parametrize(
    ("certified", "searched", "vacuous", "ratio"),
    [
        (1.4e-45, 0.0, False, 1.0),
        (3.0, 1.0, False, 3.0),
        (11.0, 1.0, True, 11.0),
        (1.0, 0, True, None),
    ],
)
def test_a_proven_zero_is_not_vacuous(certified, searched, vacuous, ratio):
    pair = ("n", "m")
    one = SimpleNamespace(
        point={pair: 0.0}, searched={pair: searched}, certified={pair: certified}, status={pair: 0}
    )
    cell = bounds._cell(pair, [one])
    assert cell["vacuous"] is vacuous
    assert cell["ratio"] == ratio
