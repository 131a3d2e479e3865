"""The audit end to end: results that validate, repeat bit by bit, and make a page."""

import json
import re

import jsonschema
import numpy as np
import pytest

from experiments import own_model
from mmx_jax.cli.main import main
from mmx_jax.cli.summary import print_summary
from mmx_jax.report import render, schema


def nulls(tree, path=""):
    """The dotted paths of all leaves that are null."""
    if tree is None:
        yield path
    elif isinstance(tree, dict):
        for key, leaf in tree.items():
            yield from nulls(leaf, f"{path}.{key}" if path else key)
    elif isinstance(tree, list):
        for i, leaf in enumerate(tree):
            yield from nulls(leaf, f"{path}.{i}")


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """The audit of ``experiments/own_model.py``, twice with the same command."""
    place = tmp_path_factory.mktemp("audit")
    own_model.write(str(place / "own.npz"), examples=24)
    chosen = "occlusion,saliency+occlusion,control-constant,rescaled-occlusion"
    command = [
        "audit",
        "--model",
        f"{own_model.__file__}:build",
        "--data",
        str(place / "own.npz"),
        "--quick",
        "--stability",
        "2",
        "--explainers",
        chosen,
    ]
    for name in ("one", "two"):
        assert main([*command, "--out", str(place / name)]) == 0
    return place


def test_the_terminal_says_why_a_verdict_of_a_few_explainers_fails(audited, capsys):
    results, panels = (
        json.loads((audited / "one" / f"{name}.json").read_text()) for name in ("results", "panels")
    )
    print_summary(results, panels, audited)
    why = results["explainers"]["control-constant"]["why"]["granger"][0]
    said = " ".join(capsys.readouterr().out.split())
    assert f"control-constant fails granger: {why}" in said
    cards = results["explainers"]
    many = {f"{name} {i}": card for name, card in cards.items() for i in range(2)}
    print_summary(results | {"explainers": many}, panels | {"controls": []}, audited)
    assert "fails granger:" not in capsys.readouterr().out


def test_results_validate_and_every_null_has_a_reason(audited):
    results = json.loads((audited / "one" / "results.json").read_text())
    jsonschema.Draft202012Validator(schema()).validate(results)
    assert results["task"] == "own_model"
    assert results["examples"] == {"calibration": 8, "evaluation": 16, "stability": 2}
    assert set(results["explainers"]) == {
        "occlusion",
        "saliency + occlusion(text)",
        "control-constant",
        "rescaled-occlusion",
    }
    for entry in results["explainers"].values():
        body = {key: value for key, value in entry.items() if key != "reasons"}
        assert set(nulls(body)) == set(entry["reasons"])
        assert all(entry["why"][v] for v, x in entry["verdict"].items() if x != "pass")
        for n in ("table", "text"):
            assert entry["granger"][f"{n}<-{n}"]["unit_overclaim"] is None


def test_results_repeat_bit_by_bit_and_hold_no_times(audited):
    one, two = ((audited / name / "results.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"second" not in one
    timings = json.loads((audited / "one" / "timings.json").read_text())
    assert set(timings["explainers"]) == set(json.loads(one)["explainers"])
    assert timings["compiling"] > 0


def test_results_say_what_is_known_of_the_model(audited):
    """The constant explanation never reacts; the columns that no weight reads are not marked."""
    results = json.loads((audited / "one" / "results.json").read_text())
    entries = results["explainers"]
    assert entries["control-constant"]["verdict"]["granger"] == "fail"
    assert entries["control-constant"]["calibration"] is None
    assert entries["control-constant"]["evaluations"] == 0
    assert entries["occlusion"]["evaluations"] == 1 + 4 + 4
    assert entries["occlusion"]["granger"]["table<-table"]["overclaim"] in (None, 0.0)
    assert entries["occlusion"]["sufficiency"]["table"]["own"] < 0.1
    # rescaled: the mass of a modality is its effect, so the diagonal can't be violated
    assert entries["rescaled-occlusion"]["granger"]["text<-text"]["violation_rate"] == 0
    panels = json.loads((audited / "one" / "panels.json").read_text())
    assert panels["use"]["table"]["active"] > 0.8
    for example in panels["examples"]:
        named = example["explanations"]["occlusion"]["named"]
        assert set(named["table"]) <= {0, 1}
        words = [own_model.WORDS[example["inputs"]["text"][u]] for u in named["text"]]
        assert set(words) <= {"not"}


def test_the_page_says_it_in_words(audited):
    page = (audited / "one" / "report.html").read_text()
    assert "Audit of own_model" in page
    assert "saliency + occlusion(text)" in page
    assert re.search(r"of (the columns|quality|price)", page) or "quality" in page
    assert "mmx audit" in page
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page)


def test_explain_draws_one_example(audited, monkeypatch):
    monkeypatch.chdir(audited)
    own = ["--model", f"{own_model.__file__}:build", "--data", "own.npz"]
    options = ["--example", "3", "--explainers", "occlusion,control-constant", "--format", "svg"]
    assert main(["explain", *own, *options]) == 0
    told = json.loads((audited / "mmx-explain" / "explanation.json").read_text())
    scores = told["explanations"]["occlusion"]["scores"]
    assert scores["table"][2:] == [0, 0]
    data = np.load("own.npz")
    assert told["units"]["text"] == [own_model.WORDS[i] for i in data["text"][3]]
    assert (audited / "mmx-explain" / "explanation.svg").read_text().startswith("<?xml")
    # a second run takes another name, and nothing is overwritten
    assert main(["explain", *own, *options]) == 0
    assert (audited / "mmx-explain-2" / "explanation.json").exists()


def test_explain_a_task_with_known_truth(tmp_path):
    options = ["--task", "xor", "--explainers", "truth", "--example", "2"]
    assert main(["explain", *options, "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert told["task"] == "xor"
    assert sum(abs(s) > 0.01 for s in told["explanations"]["truth"]["scores"]["text"]) == 1
    assert (tmp_path / "out" / "explanation.png").stat().st_size > 1000


def test_the_page_is_drawn_from_the_files_alone(audited):
    one = audited / "one"
    results, panels = (json.loads((one / f"{n}.json").read_text()) for n in ("results", "panels"))
    assert render(results, panels) == (one / "report.html").read_text()
