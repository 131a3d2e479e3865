"""What every explainer owes: structure, jit, vmap, derivatives, counted calls, flat memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explainers.cases import (
    KEY,
    MODALITIES,
    counted,
    counting,
    every_explainer,
    explain,
    flat,
    inputs_of,
    marginal,
    mlp,
    split,
)

from mmx_jax import Modality, as_model
from mmx_jax import explainers as ex
from mmx_jax.errors import InputError, UnknownNameError

SAMPLERS, OTHERS = every_explainer(MODALITIES)
ALL = SAMPLERS | OTHERS
MODEL, X = mlp(), inputs_of(0)
BATCH = jax.tree.map(lambda *rows: jnp.stack(rows), inputs_of(0), inputs_of(1))
TARGETS = jnp.array([1, 0], jnp.int32)
KEYS = jax.random.split(KEY, 2)
UNITS = {"image": (4,), "note": (3,)}
INPUT_ONLY = ("Constant", "Random", "ReferenceDetector", "EdgeDetector")


@pytest.fixture(scope="module")
def batched():
    """Every explainer under jit(vmap), compiled once for the module."""
    compiled = {}

    def run(name, inputs, targets=TARGETS):
        if name not in compiled:
            compiled[name] = jax.jit(jax.vmap(ALL[name], in_axes=(None, 0, 0, 0)))
        return compiled[name](MODEL, inputs, targets, KEYS)

    return run


EAGER = (
    "Saliency",
    "IntegratedGradients",
    "Occlusion",
    "ExtremalPerturbation",
    "EdgeDetector",
)


@pytest.mark.parametrize("name", ALL)
def test_structure_counted_calls_and_vmap_equals_one_by_one(name, batched):
    """Op by op for one explainer of each kind, where compiled and eager results have to agree."""
    compiled = name not in EAGER
    one, calls = counted(ALL[name], MODEL, inputs_of(1), TARGETS[1], KEYS[1], compiled)
    assert calls == ALL[name].evaluations
    chex.assert_trees_all_equal_structs(one, X)
    assert {n: s.shape for n, s in one.items()} == UNITS
    assert all(s.dtype == jnp.float32 for s in one.values())
    assert np.all(np.isfinite(flat(one)))
    rows = {n: s[1] for n, s in batched(name, BATCH).items()}
    chex.assert_trees_all_close(rows, one, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("name", ["Saliency", "KernelSHAP sampled", "ExtremalPerturbation"])
def test_settings_are_part_of_the_program_and_arrays_are_arguments(name):
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(explainer, model, inputs, target, key):
        return explainer(model, inputs, target, key)

    first = run(ALL[name], MODEL, X, jnp.int32(0), KEY)
    for seed in (1, 2):
        other = run(ALL[name], mlp(seed), inputs_of(seed), jnp.int32(1), KEYS[0])
    assert np.any(flat(first) != flat(other))


DIFFERENTIATED = (
    "Saliency",
    "SmoothGrad",
    "IntegratedGradients",
    "ExpectedGradients",
    "Occlusion",
    "LIME",
    "KernelSHAP sampled",
    "WithinShapley",
    "ModalityShapley",
    "PermutationShapley",
    "ExtremalPerturbation",
    "GNNExplainer",
    "Rescaled",
    "Smeared",
)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_reverse_mode_agrees_with_a_directional_difference(name):
    rng = np.random.default_rng(3)
    probe = {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in UNITS.items()}

    def projected(inputs):
        scores = ALL[name](MODEL, inputs, 1, KEY)
        return sum(jnp.vdot(scores[n], probe[n]) for n in scores)

    direction, step = inputs_of(9), 1e-2
    points = jax.tree.map(lambda a, d: jnp.stack([a, a + step * d, a - step * d]), X, direction)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(projected)))(points)
    expected = sum(jnp.vdot(slopes[n][0], direction[n]) for n in slopes)
    difference = (values[1] - values[2]) / (2 * step)
    np.testing.assert_allclose(expected, difference, rtol=3e-2, atol=3e-2)


def test_jacobians_of_gradient_explainers_are_second_derivatives():
    jacobian = jax.jit(jax.jacrev(lambda x: ALL["Saliency"](MODEL, x, 1, None)["image"]))(X)
    assert jacobian["note"].shape == (4, 3, 2)
    hessian = jax.jit(jax.hessian(lambda x: MODEL(x)[1]))(X)
    sign = jnp.sign(jax.jit(jax.grad(lambda x: MODEL(x)[1]))(X)["image"])
    entries = sign[..., None, None] * hessian["image"]["note"]
    blocks = entries.reshape(2, 2, 2, 2, 3, 2).sum((1, 3)).reshape(4, 3, 2)
    np.testing.assert_allclose(jacobian["note"], blocks, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_need_a_key_and_follow_it(name, batched):
    with pytest.raises(InputError, match=r"^key is None.*samples"):
        SAMPLERS[name](MODEL, X, 1, None)
    same = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), X)
    scores = batched(name, same, jnp.array([1, 1], jnp.int32))
    assert all(np.any(s[0] != s[1]) for s in scores.values())


MARGINAL = [
    "IntegratedGradients",
    "ExpectedGradients",
    "Occlusion",
    "FeaturePermutation",
    "ModalityShapley",
    "PermutationShapley within",
    "ExtremalPerturbation",
    "OthersAtReference",
]


@pytest.mark.parametrize("name", MARGINAL)
def test_a_marginal_reference_costs_one_call_per_draw_and_value(name):
    samplers, others = every_explainer(marginal())
    explainer = (samplers | others)[name]
    assert counted(explainer, MODEL, X, 1, KEY)[1] == explainer.evaluations


def _encodings(explainer):
    """How often an explanation encodes each modality of a split model."""
    model, _ = split()
    calls = {"image": [], "note": []}
    noted = {n: counting(model.encoders[n], calls[n]) for n in calls}

    def run(inputs):
        return explainer(type(model)(noted, model.fuse, model.link), inputs, 1, None)

    jax.block_until_ready(jax.jit(run)(X))
    jax.effects_barrier()
    return {n: len(c) for n, c in calls.items()}


def test_a_split_model_encodes_each_modality_once_and_each_draw_once():
    for modalities, draws in ((MODALITIES, 1), (marginal(), 3)):
        expected = {"image": 1 + draws, "note": 1 + draws}
        assert _encodings(ex.ModalityShapley(modalities)) == expected


def test_a_split_model_plays_the_within_game_without_encoding_the_others_again():
    assert _encodings(ex.WithinShapley(MODALITIES)) == {"image": 16 + 1, "note": 8 + 1}


@pytest.mark.parametrize("modalities", [MODALITIES, marginal()], ids=["fixed", "marginal"])
@pytest.mark.parametrize(
    "name",
    ["WithinShapley", "ModalityShapley", "PermutationShapley within"],
)
def test_a_split_model_gets_the_scores_of_the_same_plain_model(name, modalities):
    samplers, others = every_explainer(modalities)
    shared, plain = split()
    explainer = (samplers | others)[name]
    chex.assert_trees_all_close(
        explain(explainer, shared, X, 1, KEY), explain(explainer, plain, X, 1, KEY), atol=1e-5
    )


def _large(inputs, weights):
    return jnp.tanh(weights @ jnp.ravel(inputs["x"]))


LARGE = {"x": jnp.ones((32, 32))}
WEIGHTS = jnp.ones((64, 32 * 32)) / 32


def _image(patch):
    return {"x": Modality.patches((32, 32), patch)}


def _coalitions(units):
    groups = np.arange(32 * 32).reshape(32, 32) % units
    return {"x": Modality(groups, jnp.zeros((32, 32)))}


def _rows(count):
    background = jax.random.normal(KEY, (count, 32, 32))
    return {"x": _image(8)["x"].with_marginal(background, count, KEY)}


FEW_AND_MANY = {
    "IntegratedGradients": lambda n: ex.IntegratedGradients(_image(8), steps=32 * n, chunk=8),
    "SmoothGrad": lambda n: ex.SmoothGrad(_image(8), samples=32 * n, chunk=8),
    "ExpectedGradients": lambda n: ex.ExpectedGradients(_image(8), samples=32 * n, chunk=8),
    "RISE": lambda n: ex.RISE(_image(8), samples=32 * n, chunk=8),
    "LIME": lambda n: ex.LIME(_image(8), samples=32 * n, chunk=8),
    "KernelSHAP": lambda n: ex.KernelSHAP(_image(8), samples=64 * n - 2, chunk=8),
    "PermutationShapley": lambda n: ex.PermutationShapley(_image(8), pairs=8 * n, chunk=8),
    "OwenShapley": lambda n: ex.OwenShapley(_image(8), pairs=8 * n, chunk=8),
    "FeaturePermutation": lambda n: ex.FeaturePermutation(_rows(32), samples=2 * n, chunk=8),
    "WithinShapley": lambda n: ex.WithinShapley(_coalitions(6 if n == 1 else 10), chunk=8),
    "ExactShapley": lambda n: ex.ExactShapley(_coalitions(6 if n == 1 else 10), chunk=8),
    "GNNExplainer": lambda n: ex.GNNExplainer(_image(8), steps=32 * n),
    "ExtremalPerturbation": lambda n: ex.ExtremalPerturbation(_image(8), steps=32 * n),
}


@pytest.mark.parametrize("name", FEW_AND_MANY)
def test_memory_does_not_grow_with_steps_samples_or_coalitions(name):
    model = as_model(jax.tree_util.Partial(_large, weights=WEIGHTS))

    def temporary(n):
        compiled = jax.jit(FEW_AND_MANY[name](n)).lower(model, LARGE, jnp.int32(0), KEY).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(1), temporary(16)
    assert many <= few * 1.02 + 512  # one more row of results would add 4 bytes, one input 4096


@pytest.mark.parametrize("name", ["IntegratedGradients", "KernelSHAP sampled", "WithinShapley"])
def test_results_do_not_depend_on_the_chunk(name):
    settings = {k: getattr(ALL[name], k) for k in ("steps", "samples") if hasattr(ALL[name], k)}
    one, many = (type(ALL[name])(MODALITIES, **settings, chunk=c) for c in (1, 7))
    chex.assert_trees_all_close(
        jax.jit(one)(MODEL, X, jnp.int32(1), KEY),
        jax.jit(many)(MODEL, X, jnp.int32(1), KEY),
        atol=1e-5,
    )


def _by_ids(inputs):
    words = jnp.array([0.0, 1.0, -2.0, 0.5])[inputs["note"]]
    total = jnp.sum(inputs["image"]) * jnp.sum(words) + words[0]
    return jnp.stack([total, -total])


IDS = {"image": MODALITIES["image"], "note": Modality.token_ids(3, 4)}
WITH_IDS = {"image": X["image"], "note": jnp.array([1, 2, 3])}
NEED_REAL = {
    "Saliency": ex.Saliency,
    "InputXGradient": ex.InputXGradient,
    "SmoothGrad": ex.SmoothGrad,
    "IntegratedGradients": ex.IntegratedGradients,
    "ExpectedGradients": ex.ExpectedGradients,
    "ExtremalPerturbation": ex.ExtremalPerturbation,
    "GNNExplainer": ex.GNNExplainer,
}


@pytest.mark.parametrize("name", NEED_REAL)
def test_gradients_of_integers_are_refused_with_a_way_out(name):
    with pytest.raises(InputError, match=rf"inputs\['note'\].*{name}.*Occlusion.*Composite"):
        NEED_REAL[name](IDS)(as_model(_by_ids), WITH_IDS, 0, KEY)


def test_the_way_out_works():
    parts = {
        "image": ex.IntegratedGradients({"image": IDS["image"]}, steps=3),
        "note": ex.WithinShapley({"note": IDS["note"]}),
    }
    scores = explain(ex.Composite(parts), as_model(_by_ids), WITH_IDS, 0, KEY)
    word = np.array([1.0, -2.0, 0.5])
    total = float(jnp.sum(X["image"]))
    np.testing.assert_allclose(scores["note"], word * total + word * [1, 0, 0], rtol=1e-4)
    np.testing.assert_allclose(
        scores["image"], IDS["image"].reduce(X["image"]) * word.sum(), rtol=1e-4
    )


def test_an_explainer_of_one_modality_leaves_the_others_intact():
    alone = explain(ex.ExactShapley({"note": MODALITIES["note"]}), MODEL, X)
    within = explain(ex.WithinShapley(MODALITIES), MODEL, X)
    assert list(alone) == ["note"]
    np.testing.assert_allclose(alone["note"], within["note"], atol=1e-6)
    shared, _ = split()
    with_split = explain(ex.ModalityShapley({"note": MODALITIES["note"]}), shared, X)
    expected = shared(X)[1] - shared(X | {"note": jnp.zeros((3, 2))})[1]
    np.testing.assert_allclose(with_split["note"].sum(), expected, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_double_precision_is_kept():
    doubled, point = jax.tree.map(lambda a: a.astype(jnp.float64), (MODEL, X))
    path = ex.IntegratedGradients(MODALITIES, steps=24)
    for explainer in (path, ex.WithinShapley(MODALITIES)):
        scores = explain(explainer, doubled, point, 1, KEY)
        assert all(s.dtype == jnp.float64 for s in scores.values())
    residual = path.completeness_residual(doubled, point, 1, explain(path, doubled, point))
    assert abs(residual) < 1e-12


WRONG = [
    (lambda: ex.IntegratedGradients(MODALITIES, steps=0), "steps is 0"),
    (lambda: ex.SmoothGrad(MODALITIES, noise=-1.0), "noise is -1"),
    (lambda: ex.SmoothGrad(MODALITIES, chunk=0), "chunk is 0"),
    (lambda: ex.Occlusion(MODALITIES, window=1, stride=2), "stride is 2"),
    (lambda: ex.RISE(MODALITIES, share=1.0), "share is 1"),
    (lambda: ex.LIME(MODALITIES, samples=7), "samples is 7: use 8"),
    (lambda: ex.KernelSHAP(MODALITIES, samples=13), "samples is 13: use 14"),
    (lambda: ex.PermutationShapley(MODALITIES, pairs=0), "pairs is 0"),
    (lambda: ex.ExactShapley({"x": Modality.columns(17)}), "17 units.*PermutationShapley"),
    (lambda: ex.WithinShapley({"x": Modality.columns(17)}), "'x'.*17 units.*within=True"),
    (lambda: ex.FeaturePermutation(MODALITIES), "'image'.*with_marginal"),
    (lambda: ex.FeaturePermutation(marginal(), samples=4), "samples is 4 of 3"),
    (lambda: ex.ExtremalPerturbation(MODALITIES, areas=(1.0,)), "areas"),
    (lambda: ex.GNNExplainer(MODALITIES, size=-1.0), "size"),
    (lambda: ex.Composite({}), "explainers is empty"),
    (lambda: ex.Smeared(MODALITIES, ex.Saliency(MODALITIES), share=2.0), "share is 2"),
    (lambda: ex.Saliency({"joint": MODALITIES["note"]}), "'joint'"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'gauss-legendre'"):
        ex.IntegratedGradients(MODALITIES, rule="gauss-legendr")
    with pytest.raises(UnknownNameError, match="did you mean 'note'"):
        ex.ModalityBlind(MODALITIES, ex.Saliency(MODALITIES), name="notes")
