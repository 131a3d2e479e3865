"""Optimised masks on models whose relevant units are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explainers.cases import explain, flat

from mmx_jax import Modality, as_model
from mmx_jax import explainers as ex

pytestmark = pytest.mark.fast
TARGET = jnp.int32(0)
IMAGE = {"image": Modality.patches((8, 8), 2), "note": Modality.tokens(4, 2)}
MARKED = {"image": (5, 10), "note": (1,)}


def _relevant(inputs):
    patches = inputs["image"].reshape(4, 2, 4, 2).transpose(0, 2, 1, 3).reshape(16, 4).mean(1)
    tokens = inputs["note"].mean(1)
    return patches[jnp.array(MARKED["image"])], tokens[jnp.array(MARKED["note"])]


def _product(inputs):
    image, note = _relevant(inputs)
    return jax.nn.sigmoid(12 * (jnp.concatenate([image, note]).sum() - 2.5))[None]


def _ones():
    return {"image": jnp.ones((8, 8)), "note": jnp.ones((4, 2))}


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_extremal_mask_keeps_the_marked_units_at_any_scale_of_the_model(scale):
    model = as_model(lambda inputs: scale * _product(inputs))
    mask = ex.ExtremalPerturbation(IMAGE, areas=(3 / 20,))
    scores = explain(mask, model, _ones(), 0)
    best = np.sort(np.argsort(-flat(scores))[:3])
    np.testing.assert_array_equal(best, [5, 10, 17])
    np.testing.assert_allclose(flat(scores).sum(), 3, atol=0.4)
    assert flat(scores)[best].min() > 0.9
    assert np.delete(flat(scores), best).max() < 0.1


def test_areas_rank_units_by_need():
    """On a sum of unequal weights a small area takes the largest, so means rank by weight."""
    weights = jnp.array([0.2, 3.0, 0.0, 1.5, 0.6])
    model = as_model(lambda inputs: jnp.sum(weights * inputs["x"])[None])
    explainer = ex.ExtremalPerturbation({"x": Modality.columns(5)}, areas=(0.2, 0.4, 0.6, 0.8))
    scores = explain(explainer, model, {"x": jnp.ones(5)}, 0)["x"]
    np.testing.assert_array_equal(np.argsort(-scores), [1, 3, 4, 0, 2])


NODES, DIM = 8, 2
TRIANGLE = {(1, 4), (1, 6), (4, 6)}
OTHERS = {(0, 1), (0, 2), (2, 3), (3, 5), (5, 7)}


def _triangles(inputs):
    """A graph network in miniature: it counts triangles through products of messages."""
    adjacency = inputs["graph"]["adjacency"]
    count = jnp.trace(adjacency @ adjacency @ adjacency) / 6
    messages = jnp.mean(jnp.tanh(adjacency @ inputs["graph"]["features"]))
    return jnp.stack([jax.nn.log_sigmoid(8 * count - 4 + 0.01 * messages), messages])


def _graph():
    adjacency = np.zeros((NODES, NODES), np.float32)
    for i, j in TRIANGLE | OTHERS:
        adjacency[i, j] = adjacency[j, i] = 1
    return {"graph": {"features": jnp.ones((NODES, DIM)), "adjacency": jnp.asarray(adjacency)}}


def test_gnn_explainer_finds_the_edges_of_the_motif():
    modality = Modality.edges(NODES * (NODES - 1) // 2, NODES, DIM)
    mask = ex.GNNExplainer({"graph": modality})
    scores = np.asarray(explain(mask, as_model(_triangles), _graph(), 0)["graph"])
    motif = np.array([ends in TRIANGLE for ends in modality.layout])
    assert scores[motif].min() > 0.8
    assert scores[~motif].max() < 0.2


def test_gnn_explainer_finds_the_nodes_of_the_motif():
    modality = Modality.nodes(NODES, DIM)
    mask = ex.GNNExplainer({"graph": modality})
    scores = np.asarray(explain(mask, as_model(_triangles), _graph(), 0)["graph"])
    motif = np.isin(np.arange(NODES), [1, 4, 6])
    assert scores[motif].min() > 0.8
    assert scores[~motif].max() < 0.2


def test_a_higher_price_keeps_less():
    modality = {"graph": Modality.nodes(NODES, DIM)}
    masks = [ex.GNNExplainer(modality, size=size) for size in (0.0, 2.0)]
    cheap, dear = (explain(m, as_model(_triangles), _graph(), 0)["graph"].sum() for m in masks)
    assert dear < 0.2 * NODES
    assert cheap > 3 * 0.9
