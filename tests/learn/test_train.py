import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
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
    Settings,
    as_explainer,
    train_explainer,
)
from mmx_jax.learn.checkpoint import BEST, Checkpoints
from mmx_jax.typing import record

SCRIPT = Path(__file__).parent / "tiny.py"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts the small run; its processes share compiled programs."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(mmx.__file__).parents[1]),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # these compile more than they compute
    }

    def process(*arguments):
        command = [sys.executable, str(SCRIPT), *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    return process


def fingerprint(process):
    out = process.communicate(timeout=600)[0]
    return out.split("digest ")[1].strip()


def test_training_killed_at_a_random_moment_and_resumed_ends_with_the_same_bits(start, tmp_path):
    process = start(tmp_path / "run", "--pause", 0.5)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "step 64":
            break
    moment = random.SystemRandom().uniform(0, 1.8)  # four pauses are 2 seconds
    print(f"killed {moment:.3f} seconds after step 64")
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "COMPLETE").exists()
    assert fingerprint(start(tmp_path / "run", "--resume")) == fingerprint(start("-"))
    assert (tmp_path / "run" / "COMPLETE").exists()
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [64, 128, 192, 256]


def test_one_device_and_eight_and_two_hosts_train_the_same(start, tmp_path):
    # in float64: training grows what rounding makes different in programs for one device and eight
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    hosts = ("--hosts", 2, "--port", port)
    processes = [
        start("-", "--x64", "--weights", tmp_path / "one.npy"),
        start("-", "--x64", "--weights", tmp_path / "eight.npy", "--devices", 8),
        *(
            start(tmp_path / "run", "--x64", "--weights", tmp_path / f"host{i}.npy", *hosts,
                  "--host", i)
            for i in range(2)
        ),
    ]  # fmt: skip
    prints = [fingerprint(process) for process in processes]
    assert prints[2] == prints[3]
    one, eight, host = (np.load(tmp_path / f"{name}.npy") for name in ("one", "eight", "host0"))
    assert (tmp_path / "run" / "COMPLETE").exists()
    assert one.dtype == np.float64
    np.testing.assert_allclose(eight, one, atol=1e-5)
    np.testing.assert_allclose(host, one, atol=1e-5)


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


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("patience", -1),
        ("clip", -1.0),
        ("clip", float("nan")),
        ("weight_decay", float("nan")),
        ("seed", -1),
        ("learning_rate", 0.0),
    ],
)
def test_settings_that_cannot_be_used_are_named(setting, value):
    with pytest.raises(InputError, match=f"^{setting} is {value}"):
        dataclasses.replace(Settings(), **{setting: value}).check()


def test_best_weights_can_be_read_while_training_goes_on(modalities, sample, tmp_path):
    read = []

    def look(step, *_):
        with Checkpoints(tmp_path / "run", (BEST,), write=False) as saved:
            read.extend(saved.steps(BEST))

    run(modalities, sample, directory=tmp_path / "run", progress=look)
    assert read == [2, 2, 2]  # the first is the best of equal ones
    with Checkpoints(tmp_path / "run", ("last",)) as saved:
        assert saved.steps("last") == [4, 6]


def test_reading_removes_nothing_of_what_is_being_written(modalities, sample, tmp_path):
    run(modalities, sample, directory=tmp_path / "run")
    pending = tmp_path / "run" / BEST / "8.orbax-checkpoint-tmp"
    pending.mkdir()
    with Checkpoints(tmp_path / "run", (BEST,), write=False) as saved:
        assert saved.steps(BEST) == [2]
    assert pending.is_dir()
    with pytest.raises(InputError, match="is absent"):
        Checkpoints(tmp_path / "none", (BEST,), write=False)


def test_a_weight_for_an_unknown_loss_is_refused(modalities, sample):
    with pytest.raises(UnknownNameError, match="did you mean 'far'"):
        run(modalities, sample, balance=Balance((("fat", 1.0),)))


def test_the_best_weights_are_kept_and_damage_is_told(modalities, sample, tmp_path):
    out = run(modalities, sample, directory=tmp_path / "run")
    with Checkpoints(tmp_path / "run", (BEST,)) as saved:
        state = saved.restore(BEST, out.best.state)[1]
        jax.tree.map(np.testing.assert_array_equal, state, out.best.state)
        other = ExplainerNetwork({"x": modalities["x"]}, 2, dim=4, rounds=1, rngs=nnx.Rngs(0))
        with pytest.raises(InputError, match="of another network or modality set"):
            saved.restore(BEST, as_explainer(other).state)
    data = [p for p in (tmp_path / "run").rglob("*") if p.is_file() and p.stat().st_size > 500]
    for file in data:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with (
        Checkpoints(tmp_path / "run", (BEST,)) as saved,
        pytest.raises(InputError, match=r"checkpoint .* (can't be read|is damaged)"),
    ):
        saved.restore(BEST, out.best.state)


def test_limits_are_priced_by_the_losses_of_the_whole_batch(modalities, sample):
    balance = Balance((("poisoned", 0.1),), (("far", 0.001),), rate=1.0)
    one, many = (
        run(modalities, sample, Settings(steps=6, batch=8, block=2, chunk=c), balance=balance)
        for c in (8, 2)
    )
    assert one.history[-1]["limits"]["far"] in ("active", "violated")
    np.testing.assert_allclose(
        one.state.multipliers["far"], many.state.multipliers["far"], rtol=1e-4
    )
    for a, b in zip(one.history, many.history, strict=True):
        np.testing.assert_allclose(a["losses"]["far"], b["losses"]["far"], rtol=1e-4)


def test_half_precision_stays_near_and_keeps_full_weights(modalities, sample):
    full, half = (
        run(modalities, sample, Settings(steps=20, batch=8, block=10, compute=c))
        for c in ("float32", "bfloat16")
    )
    assert {x.dtype for x in jax.tree.leaves(half.best.state)} == {np.dtype("float32")}
    far = [out.history[-1]["losses"]["far"] for out in (full, half)]
    assert far[0] != far[1]
    np.testing.assert_allclose(far[1], far[0], rtol=0.05)
