import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mmx_jax as mmx
from mmx_jax import InputError
from mmx_jax.errors import UnknownNameError
from mmx_jax.learn import (
    Balance,
    DivergedError,
    ExplainerNetwork,
    NetworkSettings,
    Recipe,
    Settings,
    fit,
    load,
    train_explainer,
)
from mmx_jax.typing import record

SCRIPT = Path(__file__).parent / "tiny.py"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts the small run; its processes share compiled programs."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(mmx.__file__).parents[1]),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
    }

    def process(*arguments):
        command = [sys.executable, str(SCRIPT), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    return process


def fingerprint(process):
    out = process.communicate(timeout=600)[0]
    return out.split("digest ")[1].strip()


def test_killed_and_resumed_training_ends_with_the_same_bits(start, tmp_path):
    whole = fingerprint(start("-"))
    process = start(tmp_path / "run", "--pause", 1)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "step 24":
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "COMPLETE").exists()
    assert fingerprint(start(tmp_path / "run", "--resume")) == whole
    assert (tmp_path / "run" / "COMPLETE").exists()
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [8, 16, 24, 32, 40]


@pytest.mark.xfail(run=False, reason="weights differ by 3e-3 after 256 steps: not yet equal")
def test_one_and_eight_devices_train_the_same(start, tmp_path):
    files = {n: tmp_path / f"{n}.npy" for n in (1, 8)}
    for devices, file in files.items():
        fingerprint(start("-", "--devices", devices, "--steps", 256, "--weights", file))
    one, eight = (np.load(file) for file in files.values())
    np.testing.assert_allclose(one, eight, atol=1e-5)


@record
class Square:
    """One loss per modality that no model is needed for; counts how often it is traced."""

    traced = 0
    poison: jax.Array

    def outputs(self, inputs):
        return jnp.zeros(2)

    def __call__(self, network, inputs, labels, targets, keys):
        Square.traced += 1
        scores = jax.vmap(network)(inputs, targets)
        return {
            "far": jnp.mean((scores["x"] - 0.3) ** 2),
            "poisoned": jnp.mean(scores["y"] ** 2) / self.poison,
        }


def quality(explainer):
    return {"quality": 0.0}


def run(modalities, sample, settings=None, poison=1.0, **options):
    network = ExplainerNetwork(modalities, 2, dim=4, rounds=1, rngs=nnx.Rngs(0))
    return train_explainer(
        network,
        Square(jnp.asarray(poison)),
        sample,
        options.pop("balance", Balance((("far", 1.0), ("poisoned", 0.1)))),
        settings or Settings(steps=6, batch=4, block=2),
        evaluate=options.pop("evaluate", quality),
        **options,
    )


def test_a_run_compiles_once_however_long(modalities, sample):
    counts = []
    for steps in (2, 8):
        Square.traced = 0
        run(modalities, sample, Settings(steps=steps, batch=4, block=2))
        counts.append(Square.traced)
    assert counts[0] == counts[1]


def test_training_lowers_the_loss_and_keeps_the_best(modalities, sample):
    seen = []

    def evaluate(explainer):
        seen.append(explainer)
        return {"quality": [0.0, 2.0, 1.0][len(seen) - 1]}

    settings = Settings(steps=60, batch=8, block=20, learning_rate=0.05)
    out = run(modalities, sample, settings, evaluate=evaluate)
    assert out.history[-1]["losses"]["far"] < 0.5 * out.history[0]["losses"]["far"]
    for best, second in zip(
        jax.tree.leaves(out.best.state), jax.tree.leaves(seen[1].state), strict=True
    ):
        np.testing.assert_array_equal(best, second)


def test_patience_stops_training(modalities, sample):
    settings = Settings(steps=100, batch=4, block=2, patience=3)
    assert len(run(modalities, sample, settings).history) == 4


def test_a_loss_that_is_not_finite_is_named_and_the_checkpoint_kept(modalities, sample, tmp_path):
    with pytest.raises(DivergedError, match="the loss poisoned is not finite at step 1"):
        run(modalities, sample, poison=0.0, directory=tmp_path / "run")
    assert not (tmp_path / "run" / "COMPLETE").exists()


def test_resuming_with_other_settings_is_refused_by_name(modalities, sample, tmp_path):
    run(modalities, sample, directory=tmp_path / "run")
    for changed in (Settings(steps=6, batch=8, block=2), Settings(steps=8, batch=4, block=2)):
        with pytest.raises(InputError, match=r"resume: settings\.(batch|steps) is"):
            run(modalities, sample, changed, directory=tmp_path / "run", resume=True)
    kept = Settings(steps=6, batch=4, block=2, patience=5)
    assert len(run(modalities, sample, kept, directory=tmp_path / "run", resume=True).history) == 3


def test_directories_that_cannot_be_used(modalities, sample, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        run(modalities, sample, directory=tmp_path / "full")
    with pytest.raises(InputError, match="holds no run"):
        run(modalities, sample, directory=tmp_path / "none", resume=True)
    (tmp_path / "flat").write_text("")
    with pytest.raises(InputError, match="out"):
        run(modalities, sample, directory=tmp_path / "flat" / "below")


def test_a_weight_for_an_unknown_loss_is_refused(modalities, sample):
    with pytest.raises(UnknownNameError, match="did you mean 'far'"):
        run(modalities, sample, balance=Balance((("fat", 1.0),)))


@pytest.fixture
def finished(modalities, model, sample, tmp_path):
    held = sample(jax.random.key(7), 16)[0]
    recipe = Recipe(
        network=NetworkSettings(dim=4, rounds=1),
        settings=Settings(steps=2, batch=4, block=2, target="fixed"),
    )
    ones = np.ones(16, np.int32)
    trained = fit(model, modalities, sample, held, ones, recipe, directory=tmp_path / "run")
    return tmp_path / "run", trained, held


def test_a_run_is_loaded_as_an_explainer_and_damage_is_told(finished, modalities, model):
    folder, trained, held = finished
    first = jax.tree.map(lambda x: x[0], held)
    loaded = load(folder, modalities, model=model)
    for name, scores in trained.best(None, first, 1, None).items():
        np.testing.assert_array_equal(loaded(None, first, 1, None)[name], scores)

    with pytest.raises(InputError, match="was trained for"):
        load(folder, {"x": modalities["x"]})
    with pytest.raises(InputError, match="not the one"):
        load(folder, modalities, model=mmx.as_model(lambda inputs: inputs["x"]))
    with pytest.raises(InputError, match="holds no run"):
        load(folder / "nowhere", modalities)

    data = [p for p in (folder / "best").rglob("*") if p.is_file() and p.stat().st_size > 500]
    for file in data:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"checkpoint .* (can't be read|is damaged)"):
        load(folder, modalities)
