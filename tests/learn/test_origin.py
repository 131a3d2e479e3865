import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import InputError, Modality, as_model
from mmx_jax.learn.origin import check_origin, describe_modalities, describe_model

MODALITIES = {"words": Modality.token_ids(3, 7), "x": Modality.columns(2)}
HELD_OUT = {"words": np.array([[0, 2, 6], [1, 1, 0]]), "x": np.array([[0.5, 1.0], [3.0, 2.0]])}


def reads(share=1.0):
    """A function without weights."""
    return as_model(lambda i: jnp.stack([i["words"][0] * share, i["x"][1] + 0.0 * share]))


def known(model):
    """What a configuration keeps, read back."""
    about = {
        "modalities": describe_modalities(MODALITIES),
        "model": describe_model(model, HELD_OUT),
        "spread": 1.0,
    }
    return json.loads(json.dumps(about))


def test_a_function_without_weights_is_told_from_another_by_its_answers():
    about = known(reads())
    check_origin(about, MODALITIES, reads(), "run")
    check_origin(about, MODALITIES, reads(1.0001), "run")
    check_origin(about, MODALITIES, None, "run")
    with pytest.raises(InputError, match="not the one that run was trained on: its outputs differ"):
        check_origin(about, MODALITIES, reads(0.9), "run")


def test_models_with_other_weights_are_refused_however_near():
    model = jax.tree_util.Partial(lambda w, i: w * i["x"], jnp.ones(2))
    about = known(model)
    check_origin(about, MODALITIES, model, "run")
    with pytest.raises(InputError, match="its weights differ"):
        check_origin(about, MODALITIES, jax.tree.map(lambda w: w + 1e-6, model), "run")


def test_inputs_are_drawn_within_the_ranges_of_the_held_out_data():
    def same(inputs):  # what is drawn comes out
        return jnp.concatenate([inputs["words"].astype(jnp.float32), inputs["x"]])

    answers = np.asarray(describe_model(as_model(same), HELD_OUT)["answers"])
    assert set(np.unique(answers[:, :3])) <= set(range(7))
    assert answers[:, :3].max() > 2
    assert 0.5 <= answers[:, 3:].min() < answers[:, 3:].max() <= 3.0


def test_outputs_that_are_not_finite_are_compared_too():
    model = as_model(lambda i: jnp.log(i["x"] - 1.0))
    check_origin(known(model), MODALITIES, model, "run")


def test_other_modalities_are_refused():
    about = known(reads())
    for other in ({"x": MODALITIES["x"]}, MODALITIES | {"x": Modality.columns(3)}):
        with pytest.raises(InputError, match="was trained for"):
            check_origin(about, other, None, "run")
