"""Small models and data files for the commands."""

import textwrap

import numpy as np
import pytest

from mmx_jax.cli.main import main

MODEL = """
import jax.numpy as jnp
from mmx_jax import Modality

WORDS = ("-", "no", "yes", "<b>bold</b>")


def build():
    def model(inputs):
        sign = jnp.where(jnp.any(inputs["note"] == 1), -1.0, 1.0)
        score = sign * jnp.tanh(inputs["table"] @ jnp.array([2.0, 1.0, 0.0]))
        return jnp.array([-1.0, 1.0]) * score

    return model, {
        "table": Modality.columns(3, names=("a", "b", "c")),
        "note": Modality.token_ids(2, WORDS),
    }


def scalar():
    return lambda inputs: jnp.sum(inputs["table"]), build()[1]


def broken():
    return lambda inputs: jnp.full(2, jnp.nan) * inputs["table"][:1], build()[1]


def raising():
    return lambda inputs: inputs["table"] @ jnp.ones(7), build()[1]


def plain():
    return lambda inputs: [float(inputs["table"][0]), 0.0], build()[1]


def reserved():
    return build()[0], {"joint": Modality.columns(3), "note": Modality.token_ids(2, WORDS)}


def real():
    def model(inputs):
        return jnp.array([1.0, -1.0]) * jnp.sin(inputs["table"][0] * inputs["sound"][1, 0])

    return model, {"table": Modality.columns(3), "sound": Modality.frames(2, 1)}


def nothing():
    return 3


def fails():
    raise KeyError("weights\\nof two lines")


number = 3
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory to run in, with ``own.py`` and ``own.npz``; no caches elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(textwrap.dedent(MODEL))
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "own.npz",
        table=rng.normal(size=(18, 3)).astype(np.float32),
        note=rng.integers(1, 4, size=(18, 2)),
    )
    return tmp_path


@pytest.fixture
def refused(place, capfd):
    """Runs a command that must end with status 2 and one line, and returns the line."""

    def run(*arguments, model="own.py:build", data="own.npz"):
        before = sorted(p.name for p in place.iterdir())
        capfd.readouterr()
        own = ["--model", model, "--data", str(data)] if model else []
        command = list(arguments) if arguments[:1] == ("explain",) else ["audit", *arguments]
        assert main([*command, *own]) == 2
        lines = [x for x in capfd.readouterr().err.splitlines() if x.startswith("mmx: ")]
        assert len(lines) == 1
        created = [p.name for p in place.iterdir() if p.name not in before]
        assert [n for n in created if n != "__pycache__"] == []
        return lines[0]

    return run
