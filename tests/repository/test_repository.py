"""The repository: what a wheel carries, what the README shows, what the experiments write."""

import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from experiments.common import Run, main
from mmx_jax.certify.rules import RULES
from mmx_jax.errors import InputError
from mmx_jax.runs import read_json

ROOT = Path(__file__).parents[2]


def test_the_wheel_carries_the_data_files(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    carried = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mmx_jax").rglob("*")
        if path.suffix in {".py", ".json", ".html", ".css", ".js", ".typed"}
    }
    assert "mmx_jax/py.typed" in carried
    assert carried <= names
    assert not any(name.startswith(("tests", "experiments")) for name in names)


def test_the_library_example_of_the_readme_runs():
    text = (ROOT / "README.md").read_text()
    (example,) = re.findall(r"```python\n(import jax[^`]*?as mmx\n.*?)```", text, re.S)
    scope: dict = {}
    exec(example, scope)
    assert {n: s.shape for n, s in scope["scores"].items()} == {"image": (16,), "table": (3,)}
    assert float(scope["effects"]["image"]) == pytest.approx(64.0)
    assert (ROOT / "docs" / "report.png").is_file()


def test_the_certificate_of_the_readme_runs():
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Certify") : text.index("## Learn an explainer")]
    example, rule = re.findall(r"```python\n(.*?)```", section, re.S)
    scope: dict = {}
    exec(example, scope)
    bounds = scope["bounds"]
    assert len(bounds.certified) == 4
    assert all(bounds.point[p] <= bounds.certified[p] for p in bounds.certified)
    rules = dict(RULES)
    try:
        with pytest.raises(InputError, match="'tan'"):
            exec(rule.replace('certify.add_rule("tan", tangent)', ""), scope)
        exec(rule, scope)
    finally:
        RULES.clear()
        RULES.update(rules)


def test_claims_hold_only_if_every_seed_does():
    common = pytest.importorskip("experiments.common")
    assert common.at_least("x", {1: 0.9, 2: 0.8}, 0.8)["passed"]
    assert not common.at_least("x", {1: 0.9, 2: 0.7}, 0.8)["passed"]
    assert common.at_most("x", {1: 0.1, 2: 0.3}, 0.2)["value"] == 0.3
    undefined = common.at_most("x", {1: 0.1, 2: None}, 0.2)
    assert not undefined["passed"]
    assert undefined["value"] is None


@pytest.mark.parametrize(
    ("name", "task", "figure"),
    [
        ("sufficiency_validation", "xor", "accuracy.png"),
        ("semantic_stability", "unique", "shifts.png"),
        ("baseline_ablation", "xor", "ablation.png"),
    ],
)
def test_an_experiment_measures_and_writes_claims_and_figures(
    name, task, figure, tmp_path, monkeypatch
):
    """The whole way of each of the paper's experiments, on one small world and two seeds."""
    experiment = importlib.import_module(f"experiments.{name}")
    explainers = ["within-shapley", "control-blind"]
    if name != "baseline_ablation":
        explainers = ["saliency", "shapley", "control-random"]
    monkeypatch.setattr(experiment, "QUICK", (task,))
    monkeypatch.setattr(experiment, "EXPLAINERS", explainers)
    monkeypatch.setattr(Run, "seeds", lambda self, count: [1, 2])
    monkeypatch.setattr(sys, "argv", ["x", "--quick", "--out", str(tmp_path / "run")])
    main(name, experiment.__doc__, experiment.experiment, Run)
    results = read_json(tmp_path / "run" / "results.json")
    assert results["claims"]
    assert all(set(c["seeds"]) == {"1", "2"} for c in results["claims"])
    assert all(c["passed"] for c in results["claims"]), results["claims"]
    assert (tmp_path / "run" / figure).stat().st_size > 1000


def test_an_experiment_refuses_what_it_would_overwrite(tmp_path, monkeypatch, capsys):
    from experiments.common import Outcome, main

    (tmp_path / "kept").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        main("any", "doc", lambda run: Outcome([], {}))
    assert stopped.value.code == 2
    assert "not empty" in capsys.readouterr().err
    assert (tmp_path / "kept").read_text() == "mine"
