"""Every kind of explainer is certified, on models of every kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mmx_jax as mmx
from mmx_jax import explainers as ex
from mmx_jax.certify import lift, lipschitz_bounds
from mmx_jax.learn.network import ExplainerNetwork, as_explainer

X = {"a": jnp.array([0.4, -0.9]), "b": jnp.array([0.3, 0.8])}
MODALITIES = {m: mmx.Modality.columns(2) for m in X}
KEY = jax.random.key(0)
W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)) / 2, jnp.float32)
V = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)), jnp.float32)
PROBABILITY = "saliency of a probability"


def mlp(x):
    return jnp.tanh(jnp.concatenate([x["a"], x["b"]]) @ W) @ V


def late(x):
    return (jnp.tanh(x["a"] @ W[:2]) * jax.nn.silu(x["b"] @ W[2:])) @ V


def convolution(x):
    signal = jnp.concatenate([x["a"], x["b"]])
    return jax.nn.sigmoid(jnp.convolve(signal, W[:2, 0])[:3]) @ V


def attention(x):
    tokens = jnp.stack([x["a"], x["b"]]) @ W[:2]
    mixed = jax.nn.softmax(tokens @ W[:3] @ tokens.T) @ tokens
    centered = mixed - mixed.mean(-1, keepdims=True)
    normed = centered * jax.lax.rsqrt(jnp.mean(centered**2, -1, keepdims=True) + 0.1)
    return normed.sum(0) @ V


GRADIENTS = {
    "saliency": ex.Saliency(MODALITIES),
    PROBABILITY: ex.Saliency(MODALITIES),
    "gradient x input": ex.InputXGradient(MODALITIES),
    "integrated gradients": ex.IntegratedGradients(MODALITIES, steps=2),
    "smoothgrad": ex.SmoothGrad(MODALITIES, samples=1),
    "expected gradients": ex.ExpectedGradients(MODALITIES, samples=1),
}
ABLATIONS = {
    "occlusion": ex.Occlusion(MODALITIES),
    "exact modality shapley": ex.ModalityShapley(MODALITIES),
    "lime": ex.LIME(MODALITIES, samples=6),
    "kernelshap": ex.KernelSHAP(MODALITIES, samples=8),
    "composite": ex.Composite(
        {
            "a": ex.Occlusion({"a": MODALITIES["a"]}),
            "b": ex.WithinShapley({"b": MODALITIES["b"]}),
        }
    ),
    "reference network": ex.GatedNetwork.init(KEY, X, heads=2, width=3),
    "learned network": as_explainer(
        ExplainerNetwork(MODALITIES, outputs=2, dim=4, rounds=1, rngs=nnx.Rngs(0))
    ),
}


def certified(explainers, function, radius=1e-4):
    """Worst certified / point of every explainer, from one analysis of them all side by side."""
    lifted = lift(function, X)
    model, softmax = mmx.as_model(lifted), mmx.as_model(lifted, link="softmax")

    def all_of(x):
        found = {}
        for name, explain in explainers.items():
            scores = explain(softmax if name == PROBABILITY else model, x, 0, KEY)
            found[name] = jnp.concatenate([scores[m] for m in sorted(scores)])
        return found

    bounds = lipschitz_bounds(all_of, X, radius, method="interval", per="row", restarts=0).check()
    return {n: float(bounds.certified[n, "*"] / bounds.point[n, "*"]) for n in explainers}


@pytest.mark.parametrize("group", [GRADIENTS, ABLATIONS], ids=["gradients", "ablations"])
def test_every_explainer_is_certified(group):
    for name, ratio in certified(group, mlp).items():
        assert 1 <= ratio <= 1.3, (name, ratio)


@pytest.mark.parametrize(
    ("model", "name"), [(late, "saliency"), (convolution, "saliency"), (attention, "occlusion")]
)
def test_on_models_of_every_kind(model, name):
    (ratio,) = certified({name: (GRADIENTS | ABLATIONS)[name]}, model).values()
    assert 1 <= ratio <= 1.1
