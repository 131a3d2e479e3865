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


def test_models_with_other_weights_are_refused_unless_rounding_made_the_difference():
    model = jax.tree_util.Partial(lambda w, i: w * i["x"], jnp.array([1.0, -2.0]))
    about = known(model)
    for change in (0.0, 5e-7):
        check_origin(about, MODALITIES, jax.tree.map(lambda w, c=change: w + c, model), "run")
    swapped = jax.tree.map(lambda w: w[::-1], model)  # of the same norm
    turned = jax.tree.map(lambda w: -w, model)
    for other in (jax.tree.map(lambda w: w + 1e-4, model), swapped, turned):
        with pytest.raises(InputError, match="its weights differ"):
            check_origin(about, MODALITIES, other, "run")


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


def test_another_number_of_outputs_is_told():
    model = as_model(lambda i: i["x"])
    for other in (lambda i: i["x"][:1], lambda i: jnp.append(i["x"], 0.0)):
        with pytest.raises(InputError, match=r"it has [13] outputs and not 2"):
            check_origin(known(model), MODALITIES, as_model(other), "run")


def test_inputs_beside_the_modalities_and_keys_among_the_weights_are_told_apart_too():
    def noisy(key, inputs):
        return inputs["x"] + inputs["mask"] + jax.random.normal(key, (2,))

    model, other = (jax.tree_util.Partial(noisy, jax.random.key(seed)) for seed in (0, 1))
    about = known(reads()) | {
        "model": describe_model(model, HELD_OUT | {"mask": np.ones((2, 2))}),
        "extra": ["mask"],
    }
    check_origin(about, MODALITIES, model, "run")
    with pytest.raises(InputError, match="its weights differ"):
        check_origin(about, MODALITIES, other, "run")


def test_other_modalities_are_refused():
    about = known(reads())
    for other in ({"x": MODALITIES["x"]}, MODALITIES | {"x": Modality.columns(3)}):
        with pytest.raises(InputError, match="was trained for"):
            check_origin(about, other, None, "run")
