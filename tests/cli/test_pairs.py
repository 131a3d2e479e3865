"""Pairs of units in the audit: found where a world declares them, said to be unknown elsewhere."""

import dataclasses

import jax
import jsonschema
import numpy as np
import pytest

from mmx_jax import Modality
from mmx_jax.cli.pairs import judge_pairs
from mmx_jax.cli.subject import Subject
from mmx_jax.errors import InputError
from mmx_jax.report import schema
from mmx_jax.report.pairs import pair_cards, pair_matrix, pair_rows
from mmx_jax.tasks import mixture, synergy, uniqueness

PARTS = [(0.5, synergy("table", "text")), (0.5, uniqueness("text"))]
SIZES = {"table": Modality.columns(5), "text": Modality.tokens(5, 4)}


@pytest.fixture(scope="module")
def subject():
    task = mixture("duet", SIZES, PARTS)
    batch = jax.jit(task.sample, static_argnums=1)(jax.random.key(3), 20)
    inputs, truth = (jax.tree.map(np.asarray, part) for part in (batch.inputs, batch.truth))
    return Subject(
        name="duet",
        kind="exact",
        model=task.model,
        modalities=task.modalities,
        calibration=jax.tree.map(lambda x: x[:8], inputs),
        evaluation=jax.tree.map(lambda x: x[8:], inputs),
        calibration_targets=np.ones(8, np.int32),
        evaluation_targets=np.ones(12, np.int32),
        target_names=task.target_names,
        truth=jax.tree.map(lambda x: x[8:], truth),
    )


def test_pairs_are_found_judged_and_drawn(subject):
    interacting = subject.truth["pairs"]["table", "text"].any((1, 2))
    shown = [int(np.argmax(interacting)), int(np.argmin(interacting))]
    measured, drawn = judge_pairs(subject, 1.0, 0, True, shown)
    jsonschema.validate(measured, schema()["properties"]["pairs"])
    assert set(measured) == {
        "Shapley interactions",
        "second-order gradients",
        "DIME's interaction part",
    }
    exact = measured["Shapley interactions"]
    assert (exact["auc"], exact["precision"]) == (1.0, 1.0)
    assert exact["evaluations"] == 2**10
    # the pair is all there is in the examples where it is known to be
    assert exact["sufficiency_error"] < 1e-3
    assert exact["necessity"] > 0.3
    assert all(row["known"] == interacting.sum() for row in measured.values())
    examples = [{"index": i, "label": subject.target_names[1]} for i in shown]
    with_pair, without = pair_cards(drawn, examples, 1.0)
    (view,) = [v for v in with_pair["views"] if v["name"] == "Shapley interactions"]
    (matrix,) = view["matrices"]
    assert matrix["name"] == "table (rows) with text"
    assert matrix["drawn"].count('class="outline"') == 1
    u, w = np.argwhere(subject.truth["pairs"]["table", "text"][shown[0]])[0]
    assert view["strongest"][0]["first"] == f"table column {u + 1}"
    assert view["strongest"][0]["second"] == f"text token {w + 1}"
    (quiet,) = [v for v in without["views"] if v["name"] == "second-order gradients"]
    assert quiet["strongest"] == []
    unknown = dataclasses.replace(subject, truth=None)
    first = judge_pairs(unknown, 1.0, 0, True, [])[0]["Shapley interactions"]
    assert first["auc"] is None
    assert first["reason"] == "it is not known which pairs interact"
    assert pair_rows({"x": first})[0]["cells"][0] == "—"
    alone = dataclasses.replace(subject, modalities={"text": SIZES["text"]})
    with pytest.raises(InputError, match="pairs needs two modalities"):
        judge_pairs(alone, 1.0, 0, True, [])


def test_a_matrix_escapes_names_and_stays_small():
    names = [f"<{i}>" for i in range(100)]
    scores = np.arange(100.0)[:, None] * np.ones((1, 2))
    drawn = pair_matrix(names, ["a", "b"], scores, scores < 0, 99.0)
    assert "<99>" not in drawn
    assert "&lt;99&gt;" in drawn
    assert "&lt;20&gt;" not in drawn  # only the 64 loudest units of a side are drawn
