import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mmx_jax as mmx
from mmx_jax import InputError, Modality
from mmx_jax.errors import UnknownNameError
from mmx_jax.learn import INVASE, L2X, Balance, SelectingNetwork, Settings, train_explainer
from mmx_jax.typing import record

MODALITIES = {"x": Modality.columns(3), "y": Modality.columns(2)}


@record
class Sign:
    """Tables of which the second column of x alone decides, as a model and as a sampler."""

    def __call__(self, first, n=None):
        if n is None:
            return jax.nn.softmax(jnp.array([-4.0, 4.0]) * first["x"][1])
        x, y = jax.random.split(first)
        inputs = {"x": jax.random.normal(x, (n, 3)), "y": jax.random.normal(y, (n, 2))}
        return inputs, (inputs["x"][:, 1] > 0).astype(jnp.int32)


GATES = mmx.FeatureGates(MODALITIES)
OBJECTIVES = {
    "L2X": (L2X(GATES, Sign(), 1), (("l2x", 1.0),)),
    "INVASE": (
        INVASE(GATES),
        (("predictor", 1.0), ("baseline", 1.0), ("selector", 1.0), ("size", 0.5)),
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_unit_that_decides_is_selected(name):
    objective, weights = OBJECTIVES[name]
    trained = train_explainer(
        SelectingNetwork(MODALITIES, 2, dim=8, rngs=nnx.Rngs(0)),
        objective,
        Sign(),
        Balance(weights),
        Settings(steps=400, batch=64, chunk=64, block=400, learning_rate=0.01),
        evaluate=lambda explainer: {"quality": 0.0},
    )
    inputs, _ = Sign()(jax.random.key(7), 32)
    scores = jax.vmap(lambda x: trained.last(None, x, 0))(inputs)
    flat = np.concatenate([scores["x"], scores["y"]], 1)
    assert (flat.argmax(1) == 1).mean() > 0.9
    if name == "INVASE":
        np.testing.assert_array_equal((flat > 0.5).mean(0) > 0.5, [False, True, *[False] * 3])


def test_predictors_may_be_wider_and_activations_are_known():
    made = SelectingNetwork(
        MODALITIES, 2, dim=8, predictor_dim=16, activation="relu", rngs=nnx.Rngs(0)
    )
    assert made.selector.hidden.out_features == 8
    assert made.predictor.hidden.out_features == made.baseline.hidden.out_features == 16
    zero = jax.tree.map(jnp.zeros_like, {"x": jnp.ones(3), "y": jnp.ones(2)})
    assert made.predict(zero).shape == (2,)
    with pytest.raises(InputError, match="predictor_dim"):
        SelectingNetwork(MODALITIES, 2, predictor_dim=0, rngs=nnx.Rngs(0))
    with pytest.raises(UnknownNameError, match="did you mean 'selu'"):
        SelectingNetwork(MODALITIES, 2, activation="celu", rngs=nnx.Rngs(0))


def test_integers_can_not_be_selected_from():
    with pytest.raises(InputError, match="holds integers"):
        SelectingNetwork({"words": Modality.token_ids(3, 5)}, 2, rngs=nnx.Rngs(0))
