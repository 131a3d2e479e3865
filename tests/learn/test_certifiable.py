import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmx_jax import InputError, Modality
from mmx_jax.learn.certifiable import CertifiableNetwork
from mmx_jax.learn.contraction import Contraction, distinct, largest_two, max_min, project_l1
from mmx_jax.learn.network import as_explainer

MODALITIES = {"graph": Modality.nodes(3, 2), "image": Modality.patches((4, 4), 2)}


def network(seed, lipschitz=2.0, wild=True):
    net = CertifiableNetwork(
        MODALITIES, 2, lipschitz=lipschitz, dim=8, depth=2, kinds=3, rngs=nnx.Rngs(seed)
    )
    graphdef, state = nnx.split(net)
    leaves, tree = jax.tree.flatten(nnx.as_pure(state))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    # weights as far from orthogonal as training may take them
    factor = 3.0 if wild else 0.0
    leaves = [x + factor * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))


def point(key):
    g, a, i = jax.random.split(key, 3)
    return {
        "graph": {
            "features": jax.random.normal(g, (3, 2)),
            "adjacency": jax.random.normal(a, (3, 3)),
        },
        "image": jax.random.normal(i, (4, 4)),
    }


def flat(tree):
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_a_contraction_has_norm_at_most_one_for_any_weights(shape):
    layer = Contraction(*shape, nnx.Rngs(0))
    np.testing.assert_allclose(np.linalg.norm(layer.matrix(), 2), 1.0, atol=1e-4)
    for seed in range(5):
        layer.weight[...] = 10 ** (seed - 2) * jax.random.normal(jax.random.key(seed), shape)
        assert np.linalg.norm(np.asarray(layer.matrix(), np.float64), 2) <= 1.0


@pytest.mark.parametrize(
    ("piece", "shape", "bound"),
    [(max_min, (4, 6), 1.0), (largest_two, (5, 3), 1.0), (distinct, (4, 3), 2**0.5)],
)
def test_pieces_keep_their_lipschitz_constants(piece, shape, bound):
    def slope(key):
        x, d = jax.random.normal(key, (2, *shape))
        step = 10 ** jax.random.uniform(key, (), minval=-3.0)
        return jnp.linalg.norm(piece(x + step * d) - piece(x)) / jnp.linalg.norm(step * d)

    slopes = jax.vmap(slope)(jax.random.split(jax.random.key(0), 2000))
    assert float(jnp.max(slopes)) <= bound * (1 + 1e-3)
    assert float(jnp.max(slopes)) > 0.8 * bound


def test_the_projection_is_the_nearest_point_and_jointly_one_lipschitz():
    r = jnp.array([0.5, 0.3, 0.0, 0.1])
    out = project_l1(r, jnp.asarray(0.6))
    np.testing.assert_allclose(out, [0.4, 0.2, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(project_l1(r, jnp.asarray(-2.0)), -r, atol=1e-6)
    np.testing.assert_allclose(project_l1(r, jnp.asarray(0.0)), 0.0)

    def slope(key):
        x, d = jax.random.normal(key, (2, 6))
        step = 10 ** jax.random.uniform(key, (), minval=-2.0, maxval=1.0)
        after = x + step * d
        first, second = (project_l1(jax.nn.relu(v[1:]), v[0]) for v in (x, after))
        return jnp.linalg.norm(second - first) / jnp.linalg.norm(after - x)

    slopes = jax.vmap(slope)(jax.random.split(jax.random.key(0), 4000))
    assert 0.8 < float(jnp.max(slopes)) <= 1 + 1e-3


@jax.jit
def slopes_and_scores(explain, xs):
    def scores(x):
        return explain(None, x, 1, None)

    return jax.vmap(jax.jacobian(scores))(xs), jax.vmap(lambda x: flat(scores(x)))(xs)


def test_certificates_bound_every_jacobian_block_and_difference():
    xs = jax.vmap(point)(jax.random.split(jax.random.key(9), 16))
    for seed in range(2):
        net = network(seed)
        bounds, explain = net.certificate(), as_explainer(net)
        np.testing.assert_allclose(bounds["all"], 2.0, rtol=1e-4)
        slopes, scores = slopes_and_scores(explain, xs)
        for n, m in itertools.product(MODALITIES, MODALITIES):
            parts = jax.tree.leaves(slopes[n][m])
            units = parts[0].shape[1]
            block = jnp.concatenate([p.reshape(16, units, -1) for p in parts], -1)
            worst = np.linalg.norm(block, 2, axis=(1, 2)).max()
            assert worst <= float(bounds[f"{n}<-{m}"]) * (1 + 1e-4)
        inputs = jax.vmap(flat)(xs)
        rise = jnp.linalg.norm(scores[1:] - scores[:-1], axis=1)
        run = jnp.linalg.norm(inputs[1:] - inputs[:-1], axis=1)
        assert float(jnp.max(rise / run)) <= float(bounds["all"]) * (1 + 1e-4)


def test_the_certificate_is_not_vacuous():
    explain = as_explainer(network(0, wild=False))
    xs = jax.vmap(point)(jax.random.split(jax.random.key(0), 16))
    slopes, _ = slopes_and_scores(explain, xs)
    own = slopes["image"]["image"].reshape(16, 4, -1)
    assert np.linalg.norm(own, 2, axis=(1, 2)).max() > 0.05 * 2.0


def test_settings_that_cannot_be_used():
    with pytest.raises(InputError, match="even dim"):
        CertifiableNetwork(MODALITIES, 2, dim=7, rngs=nnx.Rngs(0))


def test_token_ids_have_no_certificate():
    mixed = MODALITIES | {"words": Modality.token_ids(3, 5)}
    net = CertifiableNetwork(mixed, 2, dim=4, rngs=nnx.Rngs(0))
    assert "image<-words" not in net.certificate()
    assert "words<-image" in net.certificate()
