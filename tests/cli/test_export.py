"""``mmx export``: another framework can read a world, check it and write its model again."""

import hashlib
import json

import numpy as np
import pytest

from mmx_jax.cli.main import main


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp("world") / "out"
    sizes = ["--train", "40", "--validation", "40", "--test", "40"]
    assert main(["export", "suppressor", "--out", str(out), *sizes]) == 0
    return out


def test_checksums_and_the_datasheet_fit(exported):
    for line in (exported / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    facts = json.loads((exported / "world.json").read_text())
    assert facts["recoverable"] == {"from_model": True, "from_data": True, "reasons": []}
    assert not facts["released"]  # other sizes
    # y is in the graph, under a nuisance that the table shows: half a bit without it, one with it
    parts = facts["information"]
    assert parts["synergy"] == pytest.approx(0.5, abs=1e-4)
    assert parts["unique1"] == pytest.approx(0.5, abs=1e-4)
    sheet = (exported / "DATASHEET.md").read_text()
    assert "right on 100.0%" in sheet
    assert "| graph | 8 | node |" in sheet


def detect(p):
    t = np.clip((np.abs(p) - 0.4) / 0.4, 0, 1)
    return p * t**3 * (t * (6 * t - 15) + 10)


def test_the_model_can_be_written_again_from_the_files(exported):
    facts = json.loads((exported / "world.json").read_text())
    model, test = np.load(exported / "model.npz"), np.load(exported / "test.npz")
    graph = test["inputs/graph/features"] @ model["markers/graph"].T
    table = test["inputs/table"][:, :, None] * model["markers/table"].T
    reads = {"graph": detect(graph).sum(1), "table": detect(table).sum(1)}
    s = np.zeros(40)
    for strength, term in zip(model["strengths"], facts["model"]["terms"], strict=True):
        assert term["op"] == "sum"
        bits = [b["weight"] * reads[b["modality"]][:, b["channel"]] for b in term["bits"]]
        s += strength * np.sum(bits, 0)
    plus = 1 / (1 + np.exp(-3 * s))
    np.testing.assert_allclose(test["outputs"][:, 1], plus, atol=1e-5)
    np.testing.assert_array_equal(plus > 0.5, test["labels"] == 1)
    np.testing.assert_allclose(test["games/values"][:, 3], plus, atol=1e-5)
    np.testing.assert_allclose(test["games/values"][:, 0], 0.5, atol=1e-6)
    total = test["games/moebius"].sum(1)
    np.testing.assert_allclose(total, plus, atol=1e-5)
    for name, other in (("graph", 2), ("table", 1)):
        effect = test["games/values"][:, 3] - test["games/values"][:, other]
        np.testing.assert_allclose(test[f"contributions/{name}"].sum(1), effect, atol=1e-5)
        silent = ~test[f"relevant/{name}"]
        assert np.abs(test[f"contributions/{name}"][silent]).max() == 0


def test_splits_differ_and_mistakes_are_named(exported, tmp_path, capsys):
    train, test = (np.load(exported / f"{name}.npz") for name in ("train", "test"))
    assert sorted(train) == sorted(test)
    assert not np.array_equal(train["inputs/table"], test["inputs/table"])
    for arguments, message in (
        (["export", "sarcasms"], "did you mean 'sarcasm'"),
        (["export", "xor", "--out", str(exported)], "is not empty"),
        (["export", "xor", "--test", "0", "--out", str(tmp_path / "no")], "test is 0"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
