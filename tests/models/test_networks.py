"""The networks: any modality goes in, edit sites read and write, and the split form is the same."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmx_jax import FeatureGates, Modality, as_model, coalition_values, edit, read, sites
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.models import FusionTransformer, LateFusion, split

KINDS = {
    "image": Modality.patches((4, 6, 2), (2, 3)),
    "text": Modality.tokens(5, 3),
    "note": Modality.token_ids(4, 7),
    "sound": Modality.frames(3, 4),
    "graph": Modality.nodes(4, 3),
    "links": Modality.edges(6, nodes=4, dim=2),
    "weights": Modality.edges(5),
    "table": Modality.columns(4),
}


def example(modalities, seed=0):
    rng = np.random.default_rng(seed)

    def draw(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return jnp.asarray(rng.integers(0, 7, leaf.shape), leaf.dtype)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    return {n: jax.tree.map(draw, m.reference) for n, m in modalities.items()}


def fusion(modalities, **settings):
    settings = {"dim": 8, "heads": 2, "layers": 1} | settings
    return FusionTransformer(modalities, 3, rngs=nnx.Rngs(0), **settings)


def late(modalities):
    return LateFusion(modalities, 3, dim=8, hidden=16, rngs=nnx.Rngs(0))


PAIRS = [("image", "note"), ("text", "graph"), ("sound", "table"), ("links", "weights")]


@pytest.mark.parametrize("build", [fusion, late])
@pytest.mark.parametrize("names", PAIRS)
def test_every_kind_of_modality_matters_and_the_split_form_is_equal(build, names):
    modalities = {n: KINDS[n] for n in names}
    net, x = build(modalities), example(modalities)
    model, parts = as_model(net, link="softmax"), split(net, link="softmax")
    run = jax.jit(lambda m, x: (m(x), coalition_values(FeatureGates(modalities), m, x, 0)))
    (outputs, values), (same, shared) = run(model, x), run(parts, x)
    assert outputs.shape == (3,)
    assert float(outputs.sum()) == pytest.approx(1, abs=1e-5)
    assert float(values[3]) == pytest.approx(float(outputs[0]), abs=1e-6)
    assert jnp.abs(jnp.diff(jnp.sort(values))).min() > 1e-6  # every modality moves the outputs
    chex.assert_trees_all_close((same, shared), (outputs, values), atol=1e-6)
    assert sites(parts, x) == sites(model, x)


def test_the_transformer_has_a_token_per_unit_and_a_site_for_every_activation():
    modalities = {n: KINDS[n] for n in ("image", "note", "graph", "table")}
    net, x = fusion(modalities, pool="cls"), example(modalities)
    found = {n: s.shape for n, s in sites(as_model(net), x).items()}
    assert found == {
        "embedding/graph": (4, 8),
        "embedding/image": (4, 8),
        "embedding/note": (4, 8),
        "embedding/table": (4, 8),
        "block0/pattern": (2, 17, 17),
        "block0/attention": (17, 8),
        "block0/mlp": (17, 8),
        "block0/residual": (17, 8),
        "pooled": (8,),
    }


@pytest.mark.parametrize("build", [fusion, late])
def test_writing_back_what_was_read_changes_nothing_and_zeros_change_the_outputs(build):
    modalities = {n: KINDS[n] for n in ("image", "note")}
    model, x = as_model(build(modalities)), example(modalities)
    plain = model(x)
    outputs, seen = read(model, x)
    chex.assert_trees_all_close(outputs, plain, atol=1e-6)
    write = jax.jit(lambda factor: {n: edit(model, x, {n: factor * v}) for n, v in seen.items()})
    for name, same in write(1.0).items():
        chex.assert_trees_all_close(same, plain, atol=1e-6)
        zeroed = write(0.0)[name]
        assert jnp.abs(zeroed - plain).max() > 1e-6, name


def test_sites_are_on_the_path_that_is_computed():
    """What comes after a site follows from its value alone."""
    modalities = {n: KINDS[n] for n in ("text", "sound")}
    model = as_model(fusion(modalities))
    x, other = example(modalities, 0), example(modalities, 1)
    _, seen = read(model, other)
    moved = edit(model, x, {"block0/residual": seen["block0/residual"]})
    chex.assert_trees_all_close(moved, model(other), atol=1e-6)
    tokens = {n: seen[n] for n in ("embedding/text", "embedding/sound")}
    chex.assert_trees_all_close(edit(model, x, tokens), model(other), atol=1e-6)


def test_attention_is_a_distribution_and_agrees_with_a_loop():
    modalities = {n: KINDS[n] for n in ("text", "sound")}
    net, x = fusion(modalities), example(modalities)
    _, seen = read(as_model(net), x)
    block = net.fusion.blocks[0]
    tokens = np.concatenate([seen["embedding/sound"], seen["embedding/text"]])
    normal = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(
        tokens.var(-1, keepdims=True) + 1e-6
    )
    kernel = np.asarray(block.query_key_value.kernel[...])
    q, k, v = np.split(normal @ kernel, 3, -1)
    rows = []
    for h in range(2):
        s = slice(4 * h, 4 * h + 4)
        weight = np.exp(q[:, s] @ k[:, s].T / 2)
        weight /= weight.sum(-1, keepdims=True)
        np.testing.assert_allclose(seen["block0/pattern"][h], weight, atol=1e-5)
        rows.append(weight @ v[:, s])
    mixed = np.concatenate(rows, -1) @ np.asarray(block.out.kernel[...])
    np.testing.assert_allclose(seen["block0/attention"], mixed, atol=1e-5)


def test_relabelling_a_graph_changes_nothing_and_moving_words_does():
    modalities = {n: KINDS[n] for n in ("graph", "note")}
    model, x = as_model(fusion(modalities)), example(modalities)
    order = jnp.array([2, 0, 3, 1])
    graph = {
        "features": x["graph"]["features"][order],
        "adjacency": x["graph"]["adjacency"][order][:, order],
    }
    chex.assert_trees_all_close(model(x | {"graph": graph}), model(x), atol=1e-6)
    moved = model(x | {"note": x["note"][::-1]})
    assert jnp.abs(moved - model(x)).max() > 1e-6


@pytest.mark.parametrize("build", [fusion, late])
def test_jit_vmap_and_the_order_of_the_dictionary_change_nothing(build):
    modalities = {n: KINDS[n] for n in ("image", "note", "table")}
    model = as_model(build(modalities))
    xs = [example(modalities, seed) for seed in range(4)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *xs)
    each = jnp.stack([model(x) for x in xs])
    chex.assert_trees_all_close(jax.jit(jax.vmap(model))(batch), each, atol=1e-6)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(m, x):
        return m(x)

    chex.clear_trace_counter()
    for x, expected in zip(xs, each, strict=True):
        chex.assert_trees_all_close(run(model, x), expected, atol=1e-6)
    reversed_ = dict(reversed(list(modalities.items())))
    again = as_model(build(reversed_))
    chex.assert_trees_all_equal(again(dict(reversed(list(xs[0].items())))), model(xs[0]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="modalities are 1: give two or more"):
        fusion({"text": KINDS["text"]})
    two = {n: KINDS[n] for n in ("text", "sound")}
    with pytest.raises(UnknownNameError, match="pool 'max'"):
        fusion(two, pool="max")
    with pytest.raises(InputError, match="heads is 3 for width 8"):
        FusionTransformer(two, 2, dim=8, heads=3, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="scalar reference"):
        late({"text": Modality(groups=np.arange(3))})
    with pytest.raises(InputError, match="no row per unit"):
        fusion({"a": Modality(groups=np.array([0, 0, 1])), "b": KINDS["text"]})
    with pytest.raises(InputError, match="build a SplitModel"):
        split(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
