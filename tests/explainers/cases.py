"""Models, games and independent references for the tests of explainers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax import Modality, SplitModel, as_model
from mmx_jax import explainers as ex

PATCHES, TOKENS = (4, 4), (3, 2)
MODALITIES = {"image": Modality.patches(PATCHES, 2), "note": Modality.tokens(*TOKENS)}
KEY = jax.random.key(7)


def inputs_of(seed):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.normal(size=PATCHES), jnp.float32),
        "note": jnp.asarray(rng.normal(size=TOKENS), jnp.float32),
    }


def _mlp(weights, inputs):
    flat = jnp.concatenate([jnp.ravel(inputs["image"]), jnp.ravel(inputs["note"])])
    return weights[1] @ jnp.tanh(weights[0] @ flat)


def mlp(seed=0, hidden=5, outputs=2):
    """A smooth model in which the modalities interact."""
    rng = np.random.default_rng(seed)
    weights = [0.4 * rng.normal(size=(hidden, 22)), rng.normal(size=(outputs, hidden))]
    arrays = [jnp.asarray(w, jnp.float32) for w in weights]
    return as_model(jax.tree_util.Partial(_mlp, arrays))


def _linear(weights, bias, inputs):
    total = sum(jnp.sum(weights[n] * inputs[n]) for n in sorted(inputs))
    return jnp.stack([-total, total + bias])


def linear(weights, bias=0.7):
    """Output 1 is linear in the entries."""
    return as_model(jax.tree_util.Partial(_linear, weights, bias))


def linear_effects(weights, inputs, modalities=None):
    """What each unit adds on a linear model with zero reference."""
    modalities = modalities or MODALITIES
    return {n: modalities[n].reduce(weights[n] * inputs[n]) for n in modalities}


def _polynomial(table, inputs):
    gates = jnp.concatenate([inputs[name] for name in sorted(inputs)])
    cube = table.reshape((2,) * gates.shape[0])
    for gate in gates:  # the last axis is bit 0, the first player
        cube = (1 - gate) * cube[..., 0] + gate * cube[..., 1]
    return jnp.stack([jnp.zeros_like(cube), cube])


def game(table):
    """A model whose hard gates on inputs of ones play the game ``table[2**n]`` (output 1)."""
    return as_model(jax.tree_util.Partial(_polynomial, jnp.asarray(table, jnp.float32)))


def players(**units):
    """Modalities of columns, and inputs of ones for them."""
    modalities = {name: Modality.columns(count) for name, count in units.items()}
    return modalities, {name: jnp.ones(count) for name, count in units.items()}


def random_game(n, seed):
    return np.random.default_rng(seed).normal(size=1 << n)


def pairwise_game(n, seed):
    """A game whose players interact at most in pairs."""
    rng = np.random.default_rng(seed)
    single, pair = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)
    z = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1
    return z @ single + np.einsum("si,ij,sj->s", z, pair, z)


def by_permutations(table, allowed=lambda order: True):
    """Shapley values as the mean over (allowed) orders of what each player adds."""
    n = int(np.log2(len(table)))
    total, count = np.zeros(n), 0
    for order in itertools.permutations(range(n)):
        if not allowed(order):
            continue
        count, before = count + 1, 0
        for player in order:
            total[player] += table[before | 1 << player] - table[before]
            before |= 1 << player
    return total / count


def contiguous(unions):
    """Whether the players of each union stand together in an order."""

    def allowed(order):
        runs = [u for u, _ in itertools.groupby(unions[p] for p in order)]
        return len(runs) == len(set(unions))

    return allowed


def restricted(table, own):
    """The game of the players ``own`` with all others present."""
    n = int(np.log2(len(table)))
    others = sum(1 << p for p in range(n) if p not in own)
    sets = itertools.product((0, 1), repeat=len(own))
    out = np.zeros(1 << len(own))
    for bits in sets:
        index = sum(b << i for i, b in enumerate(bits))
        out[index] = table[others | sum(b << p for b, p in zip(bits, own, strict=True))]
    return out


def flat(scores):
    return np.concatenate([np.asarray(scores[name]) for name in sorted(scores)])


def marginal(draws=3, seed=11):
    """The two modalities with a marginal reference."""
    rng = np.random.default_rng(seed)
    rows = {"image": (8, *PATCHES), "note": (8, *TOKENS)}
    return {
        n: m.with_marginal(jnp.asarray(rng.normal(size=rows[n]), jnp.float32), draws, KEY)
        for n, m in MODALITIES.items()
    }


def every_explainer(modalities):
    """One of each, cheap; samplers are those that refuse to go without a key."""
    reference = ex.WithinShapley(modalities)
    samplers = {
        "SmoothGrad": ex.SmoothGrad(modalities, samples=4),
        "ExpectedGradients": ex.ExpectedGradients(modalities, samples=6),
        "RISE": ex.RISE(modalities, samples=20),
        "LIME": ex.LIME(modalities, samples=24),
        "KernelSHAP sampled": ex.KernelSHAP(modalities, samples=24),
        "PermutationShapley": ex.PermutationShapley(modalities, pairs=2),
        "PermutationShapley within": ex.PermutationShapley(modalities, pairs=2, within=True),
        "OwenShapley sampled": ex.OwenShapley(modalities, pairs=2),
        "Random": ex.Random(modalities),
    }
    others = {
        "Saliency": ex.Saliency(modalities),
        "InputXGradient": ex.InputXGradient(modalities),
        "IntegratedGradients": ex.IntegratedGradients(modalities, steps=6),
        "Occlusion": ex.Occlusion(modalities),
        "Occlusion windows": ex.Occlusion(modalities, window=2, stride=2),
        "KernelSHAP": ex.KernelSHAP(modalities, samples=126),
        "ExactShapley": ex.ExactShapley(modalities),
        "WithinShapley": reference,
        "ModalityShapley": ex.ModalityShapley(modalities),
        "OwenShapley": ex.OwenShapley(modalities),
        "ExtremalPerturbation": ex.ExtremalPerturbation(modalities, areas=(0.3, 0.6), steps=5),
        "GNNExplainer": ex.GNNExplainer(modalities, steps=5),
        "Composite": ex.Composite(
            {
                "image": ex.IntegratedGradients({"image": modalities["image"]}, steps=4),
                "note": ex.Occlusion({"note": modalities["note"]}),
            }
        ),
        "Rescaled": ex.Rescaled(modalities, ex.Saliency(modalities)),
        "UniformMass": ex.UniformMass(modalities),
        "Constant": ex.Constant(modalities),
        "EdgeDetector": ex.EdgeDetector(modalities),
        "ReferenceDetector": ex.ReferenceDetector(modalities),
        "ModalityBlind": ex.ModalityBlind(modalities, ex.Occlusion(modalities)),
        "OthersAtReference": ex.OthersAtReference(modalities, ex.Occlusion(modalities)),
        "Smeared": ex.Smeared(modalities, ex.Occlusion(modalities)),
        "PerInputNormalised": ex.PerInputNormalised(ex.Occlusion(modalities)),
    }
    if modalities["image"].draws:
        samplers["FeaturePermutation"] = ex.FeaturePermutation(modalities, samples=2)
    return samplers, others


@jax.jit
def _run(explainer, model, inputs, target, key):
    return explainer(model, inputs, target, key)


def explain(explainer, model, inputs, target=1, key=None):
    """One explanation, compiled as a whole, and once for all tests with the same settings."""
    if jax.tree_util.all_leaves([explainer]):  # a mapped explainer is a plain function
        return jax.jit(explainer)(model, inputs, jnp.int32(target), key)
    return _run(explainer, model, inputs, jnp.int32(target), key)


def counting(model, calls):
    """The model, noting every call it gets (also under vmap, scan and grad) in the list."""

    def counted(inputs):
        mark = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(inputs))
        jax.debug.callback(lambda _: calls.append(1), mark)
        return model(inputs)

    return counted


def counted(explainer, model, inputs, target=1, key=None, compiled=True):
    """An explanation and the number of model calls it made."""
    calls = []

    def run(inputs, target, key):
        return explainer(counting(model, calls), inputs, target, key)

    scores = (jax.jit(run) if compiled else run)(inputs, jnp.int32(target), key)
    jax.block_until_ready(scores)
    jax.effects_barrier()
    return scores, len(calls)


def split(seed=0):
    """A late-fusion model as SplitModel, and the same as a plain function."""
    rng = np.random.default_rng(seed)
    a, b, c = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 16), (3, 6), (2, 9)))
    encoders = {
        "image": jax.tree_util.Partial(lambda w, x: jnp.tanh(0.3 * w @ jnp.ravel(x)), a),
        "note": jax.tree_util.Partial(lambda w, x: jnp.tanh(0.5 * w @ jnp.ravel(x)), b),
    }

    def fuse(w, codes):
        return w @ jnp.outer(codes["image"] + 0.2, codes["note"] - 0.1).reshape(-1)

    model = SplitModel(encoders, jax.tree_util.Partial(fuse, c))
    return model, as_model(model.__call__)
