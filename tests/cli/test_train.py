"""``mmx train``: a run, what its mistakes say, and what the other commands make of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmx_jax
from mmx_jax.cli import train as module
from mmx_jax.cli.certify import everywhere
from mmx_jax.cli.main import main
from mmx_jax.learn import NetworkSettings, as_explainer, build_network
from mmx_jax.modality import Modality
from mmx_jax.report import certificate

MODEL = """
import jax
import jax.numpy as jnp
from mmx_jax import Modality

MODALITIES = {"x": Modality.columns(2), "y": Modality.columns(2)}


def build():
    def model(inputs):
        v = jnp.tanh(inputs["x"][0] + inputs["x"][0] * inputs["y"][1])
        return jnp.stack([-v, v])

    return model, MODALITIES


def another_function():
    def model(inputs):
        v = jnp.tanh(inputs["x"][0] - inputs["x"][0] * inputs["y"][1])
        return jnp.stack([-v, v])

    return model, MODALITIES


def other():
    def model(weights, inputs):
        return weights * inputs["x"] + inputs["y"]

    return jax.tree_util.Partial(model, jnp.ones(2)), MODALITIES


def another_modality():
    return build()[0], MODALITIES | {"z": Modality.columns(1)}
"""
OWN = ("--model", "own.py:build", "--data", "own.npz")
SMALL = (*OWN, "--steps", "100", "--batch", "4", "--dim", "4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with a model, its data, and a finished run."""
    place = tmp_path_factory.mktemp("train")
    (place / "own.py").write_text(MODEL)
    x, y = np.random.default_rng(0).normal(size=(2, 24, 2)).astype(np.float32)
    np.savez(place / "own.npz", x=x, y=y)
    np.savez(place / "three.npz", x=x, y=y, z=x[:, :1])
    environment = os.environ | {
        "PYTHONPATH": str(Path(mmx_jax.__file__).parents[1]),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # it compiles more than it computes
    }
    command = [sys.executable, "-m", "mmx_jax.cli.main", "train", *SMALL]
    command += ["--constrained", ".01", "--out", "run"]
    subprocess.run(command, cwd=place, env=environment, check=True)
    return place


@pytest.fixture
def refused(folder, monkeypatch, capfd):
    """Runs a command that must end with status 2, and returns its one line."""
    monkeypatch.chdir(folder)

    def run(*arguments):
        assert main(list(arguments)) == 2
        (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("mmx: ")]
        return line

    return run


def test_a_run_leaves_its_configuration_metrics_pictures_and_checkpoints(folder):
    names = {p.name for p in (folder / "run").iterdir()}
    assert names == {"config.json", "metrics.jsonl", "last", "best", "curves.svg", "COMPLETE"}
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["settings"]["steps"] == 100
    (row,) = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    assert row["step"] == 100
    assert row["limits"].keys() >= {"under_own", "sufficiency", "ball"}
    assert 0 <= row["measured"]["faithful"] <= 1


def test_the_run_is_explained_with_like_any_other_explainer(folder, monkeypatch):
    monkeypatch.chdir(folder)
    out = folder / "explained"
    assert main(["explain", *OWN, "--explainers", "learned:run", "--out", str(out)]) == 0
    results = json.loads((out / "explanation.json").read_text())
    assert results["explanations"]["learned:run"]["evaluations"] == 0


def test_a_certificate_by_construction_is_told():
    modalities = {"x": Modality.columns(2)}
    settings = NetworkSettings(kind="certifiable", dim=4, rounds=1, lipschitz=2.0)
    explainer = as_explainer(build_network(settings, modalities, 2, 1.5))
    assert everywhere(explainer)["all"] == pytest.approx(3.0, rel=1e-4)
    entry = {"method": None, "everywhere": everywhere(explainer)}
    assert "at most 3" in certificate._about(entry)
    free = as_explainer(build_network(NetworkSettings(dim=4), modalities, 2, 1.5))
    assert everywhere(free) is None


def test_runs_that_do_not_fit_are_refused(refused):
    def explain(build, run="run", data="own.npz"):
        own = ("--model", f"own.py:{build}", "--data", data)
        return refused("explain", *own, "--explainers", f"learned:{run}", "--out", "no")

    assert "its weights differ" in explain("other")
    assert "its outputs differ" in explain("another_function")
    assert "was trained for" in explain("another_modality", data="three.npz")
    assert "holds no run" in explain("build", "nowhere")
    shutil.copytree("run", "damaged")
    for file in Path("damaged/best").rglob("*"):
        if file.is_file() and file.stat().st_size > 500:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "checkpoint" in explain("build", "damaged")


def test_mistakes_are_told_before_anything_is_trained(refused, folder):
    assert "is not empty" in refused("train", *SMALL, "--out", "run")
    assert "holds no run" in refused("train", *SMALL, "--out", "nowhere", "--resume")
    assert "without --out" in refused("train", *SMALL, "--resume")
    assert "can't be written" in refused("train", *SMALL, "--out", "own.py/below")
    told = refused(
        "train", *SMALL, "--constrained", ".01", "--seed", "1", "--out", "run", "--resume"
    )
    assert "seed" in told
    told = refused("train", *SMALL, "--slope", ".01", "--out", "new")
    assert "contradict each other" in told
    assert "allow a slope of at least" in told
    assert "steps is 0: use 1 or more" in refused("train", *OWN, "--steps", "0", "--out", "new")
    told = refused("train", *SMALL, "--certifiable", "-1", "--out", "new")
    assert "certifiable is -1.0: use a slope above 0" in told
    assert "alpha is 2.0: use a share" in refused("train", *SMALL, "--alpha", "2", "--out", "new")
    assert not (folder / "new").exists()


def test_what_is_given_reaches_the_recipe():
    command = module.Train(alpha=0.5, beta=0.1, eps=0.2, slope=2.0, constrained=0.01, certifiable=3)
    recipe = command.recipe("fixed")
    assert (recipe.demands.alpha, recipe.demands.slack, recipe.demands.sufficiency) == (
        0.5,
        0.1,
        0.2,
    )
    assert recipe.slope == 2.0
    assert recipe.network.kind == "certifiable"
    assert dict(recipe.balance.limits)["under_own"] == 0.01


def test_a_task_beside_a_model_is_refused(capsys, tmp_path):
    given = ["--task", "xor", "--model", "own.py:build", "--out", str(tmp_path / "run")]
    assert main(["train", *given]) == 2
    assert "task is xor beside a model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
