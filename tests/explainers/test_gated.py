"""The reference explainer network: its formula, its shapes, and that it can be certified."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.certify import lipschitz_bounds
from mmx_jax.errors import InputError
from mmx_jax.explainers import GatedNetwork

X = {"a": jnp.array([0.4, -1.0, 0.2]), "b": jnp.array([[0.1, 0.9], [-0.3, 0.5]])}


def test_scores_are_evidence_times_gates():
    net = GatedNetwork.init(jax.random.key(0), X, heads=4, width=5)
    whole = np.concatenate([np.ravel(X["a"]), np.ravel(X["b"])])
    context = np.tanh(whole @ net.context["w"] + net.context["b"])
    scores = net(None, X)
    for name, rows in (("a", X["a"][:, None]), ("b", X["b"])):
        gates = context @ net.gates[name]["w"] + net.gates[name]["b"]
        for j, row in enumerate(rows):
            evidence = np.tanh(row @ net.encode[name]["w"][j] + net.encode[name]["b"][j])
            np.testing.assert_allclose(scores[name][j], evidence @ gates / 2, rtol=1e-5)
    assert net.evaluations == 0


def test_it_is_certified_nearly_exactly():
    net = GatedNetwork.init(jax.random.key(0), X, heads=2, width=3)
    bounds = lipschitz_bounds(lambda x: net(None, x), X, 0.01, method="interval", restarts=0)
    bounds.check()
    for pair, point in bounds.point.items():
        assert point <= bounds.certified[pair] <= 1.2 * bounds.point[pair]


def test_what_has_no_units_is_refused():
    with pytest.raises(InputError, match="real array"):
        GatedNetwork.init(jax.random.key(0), {"a": jnp.arange(3)})
    with pytest.raises(InputError, match="1 or more"):
        GatedNetwork.init(jax.random.key(0), X, heads=0)


def test_an_interval_bound_can_stand_in_a_loss():
    net = GatedNetwork.init(jax.random.key(1), {"a": X["a"][:2]}, heads=2, width=2)

    def bound(net):
        found = lipschitz_bounds(
            lambda x: net(None, x), {"a": X["a"][:2]}, 0.05, np.inf, "interval", restarts=0
        )
        return found.certified["a", "a"]

    with jax.enable_x64(True):  # bounds are computed, and so differentiated, in float64
        slope = jax.jit(jax.value_and_grad(bound))
        value, slopes = slope(net)
        flatter = jax.tree.map(lambda w, g: w - 0.01 * g, net, slopes)
        assert slope(flatter)[0] < value
