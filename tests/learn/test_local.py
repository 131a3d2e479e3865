"""The local certificate holds, and is below the one that holds everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmx_jax import InputError, Modality
from mmx_jax.learn.certifiable import CertifiableNetwork
from mmx_jax.learn.contraction import largest_two
from mmx_jax.learn.local import _two_by_maxima, local_bounds
from mmx_jax.learn.network import ExplainerNetwork
from mmx_jax.learn.unread import BesideUnread

MODALITIES = {"a": Modality.columns(3), "b": Modality.tokens(2, 2)}
RADIUS = {"a": 0.3, "b": 0.2}


def network(seed):
    net = CertifiableNetwork(
        MODALITIES, 2, lipschitz=2.0, dim=4, depth=1, kinds=2, rngs=nnx.Rngs(seed)
    )
    graphdef, state = nnx.split(net)
    leaves, tree = jax.tree.flatten(nnx.as_pure(state))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    leaves = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(tree, leaves))


def point(seed):
    a, b = jax.random.split(jax.random.key(seed))
    return {"a": jax.random.normal(a, (3,)), "b": jax.random.normal(b, (2, 2))}


@pytest.mark.parametrize("units", [1, 2, 5])
def test_the_two_largest_by_maxima_are_those_by_sorting(units):
    x = jax.random.normal(jax.random.key(units), (units, 7))
    np.testing.assert_array_equal(_two_by_maxima(x), largest_two(x))


@jax.jit
def bounds(state, x, key):
    return local_bounds(nnx.merge(GRAPH, state), x, 1, key, RADIUS, method="affine")


GRAPH = nnx.split(network(0))[0]


@pytest.mark.parametrize("seed", range(4))
def test_no_two_points_of_the_ball_are_steeper_than_is_proven(seed):
    net, x = network(seed), point(seed)
    found = bounds(nnx.split(net)[1], x, jax.random.key(1))
    everywhere = net.certificate()

    def within(key):
        out = {}
        for (name, leaf), k in zip(x.items(), jax.random.split(key), strict=True):
            step = jax.random.normal(k, leaf.shape)
            share = jax.random.uniform(jax.random.fold_in(k, 1))
            out[name] = leaf + RADIUS[name] * share * step / jnp.linalg.norm(step)
        return out

    @jax.jit
    @jax.vmap
    def steepest(key):
        start, end = within(jax.random.fold_in(key, 0)), within(jax.random.fold_in(key, 1))
        out = {}
        for m in x:
            moved = start | {m: end[m]}
            before, after = net(start, 1), net(moved, 1)
            size = jnp.linalg.norm(end[m] - start[m])
            out |= {(n, m): jnp.linalg.norm(after[n] - before[n]) / size for n in x}
        return out

    slopes = steepest(jax.random.split(jax.random.key(2), 2000))
    for pair, certified in found.certified.items():
        n, m = pair
        assert np.max(slopes[pair]) <= certified * (1 + 1e-4)
        assert found.point[pair] <= found.searched[pair] <= certified * (1 + 1e-4)
        assert certified <= everywhere[f"{n}<-{m}"] * (1 + 1e-5)
        assert found.status[pair] == 0
    # where nothing of the ball chooses otherwise, the bound is far below that of everywhere
    total = sum(float(c) for c in found.certified.values())
    assert total < 0.95 * sum(float(everywhere[f"{n}<-{m}"]) for n, m in found.certified)


def test_beside_what_is_not_read_and_what_cannot_be_had():
    inner = network(0)
    x = point(0) | {"c": jnp.ones(2)}
    net = BesideUnread(inner, {"c": 2})
    found = local_bounds(net, x, 1, jax.random.key(0), RADIUS | {"c": 0.1}, method="interval")
    assert all(found.certified[pair] == 0 for pair in found.certified if "c" in pair)
    with pytest.raises(InputError, match="norm is inf"):
        local_bounds(inner, point(0), 1, jax.random.key(0), RADIUS, np.inf)
    free = ExplainerNetwork(MODALITIES, 2, dim=4, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="give a certifiable one"):
        local_bounds(free, point(0), 1, jax.random.key(0), RADIUS)
