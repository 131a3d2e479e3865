"""Worlds: null players are exact, declared truths are the true ones, effects are as designed."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import FeatureGates, Modality, coalition_values
from mmx_jax.errors import InputError
from mmx_jax.games import memberships, shapley_values
from mmx_jax.gates import flatten, full, unflatten
from mmx_jax.intervention import value, within
from mmx_jax.tasks import TASKS, Bit, KnownContributions, Mode, Place, Term, world

WORLDS = ("unique", "redundant", "duplicated", "xor", "gated", "cancelling", "shortcut", "mixed")
N = 200


def batch_of(task, n=N, seed=1):
    return jax.jit(task.sample, static_argnums=1)(jax.random.key(seed), n)


def mapped(fn, *batches):
    return jax.jit(jax.vmap(fn))(*batches)


def contributions(task, inputs):
    return mapped(lambda x: task.reference(task.model, x, task.target, None), inputs)


@pytest.fixture(scope="module", params=[*WORLDS, "mixed3"])
def drawn(request):
    """A task, a batch of it, and the values of all coalitions of modalities."""
    task = TASKS[request.param](3)
    batch = batch_of(task)
    gates = FeatureGates(task.modalities)
    values = mapped(lambda x: coalition_values(gates, task.model, x, task.target), batch.inputs)
    return task, batch, np.asarray(values)


@pytest.fixture(scope="module")
def scores(drawn):
    """The reference explanation of the batch."""
    task, batch, _ = drawn
    return contributions(task, batch.inputs)


def effects(task, values):
    """``df_m`` of each modality and the joint effect."""
    last = values.shape[1] - 1
    single = {
        n: np.abs(values[:, last] - values[:, last - (1 << i)])
        for i, n in enumerate(sorted(task.modalities))
    }
    return single, np.abs(values[:, last] - values[:, 0])


def test_batches_have_the_declared_shapes_and_balanced_labels(drawn):
    task, batch, values = drawn
    assert np.all(np.isin(batch.labels, (0, 1)))
    assert abs(float(np.mean(batch.labels)) - 0.5) < 4 * 0.5 / np.sqrt(N)
    for n, modality in task.modalities.items():
        assert batch.inputs[n].shape == (N, *modality.reference.shape)
        assert batch.inputs[n].dtype == jnp.float32
        assert batch.truth["relevant"][n].shape == (N, modality.units)
    assert set(np.asarray(batch.truth["mode"])) == set(range(len(task.modes)))
    outputs = mapped(task.model, batch.inputs)
    np.testing.assert_allclose(outputs.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(outputs[:, task.target], values[:, -1], atol=1e-6)
    assert outputs[:, 1].max() - outputs[:, 1].min() > 0.85
    # the zero reference means absence
    np.testing.assert_allclose(values[:, 0], 0.5, atol=1e-6)


def test_the_exact_model_is_right_wherever_it_uses_what_the_label_says(drawn):
    task, batch, values = drawn
    right = (values[:, -1] > 0.5) == np.asarray(batch.labels)
    if task.name == "shortcut":
        misled = np.asarray(batch.truth["mode"]) == task.modes.index("shortcut misleads")
        np.testing.assert_array_equal(right, ~misled)
        assert 0.02 < misled.mean() < 0.2
    else:
        assert right.all()


def test_units_that_are_not_relevant_are_exact_null_players_in_every_context(drawn):
    """Whatever else is present, and whatever they are replaced by, not one bit changes."""
    task, batch, _ = drawn
    gates = FeatureGates(task.modalities)
    other = batch_of(task, seed=2)

    def change(key, x, donor, relevant):
        for_context, for_null = jax.random.split(key)
        context = {
            n: jax.random.bernoulli(jax.random.fold_in(for_context, i), 0.6, r.shape)
            for i, (n, r) in enumerate(relevant.items())
        }
        toggled = {
            n: jnp.where(r, context[n], jax.random.bernoulli(for_null, 0.5, r.shape))
            for n, r in relevant.items()
        }
        # a donor's background replaces theirs: anything short of a marker may stand there
        quiet = {
            n: jnp.clip(m.blend(donor[n], ~relevant[n]), -0.1, 0.1)
            for n, m in task.modalities.items()
        }
        swapped = {
            n: jnp.where(m.blend(jnp.ones_like(x[n]), relevant[n]) > 0, x[n], quiet[n])
            for n, m in task.modalities.items()
        }
        return context, toggled, swapped

    keys = jax.random.split(jax.random.key(5), N)
    context, toggled, swapped = mapped(
        change, keys, batch.inputs, other.inputs, batch.truth["relevant"]
    )
    # the same compiled program each time: others may round otherwise
    run = jax.jit(jax.vmap(lambda x, g: gates(task.model, x, g)))
    np.testing.assert_array_equal(run(batch.inputs, context), run(batch.inputs, toggled))
    ones = jax.tree.map(jnp.ones_like, context)
    np.testing.assert_array_equal(run(batch.inputs, ones), run(swapped, ones))


def test_every_relevant_unit_matters_in_some_context(drawn):
    task, batch, _ = drawn
    gates = FeatureGates(task.modalities)
    units = gates.units
    total = sum(units.values())

    def largest(x, relevant):
        """The largest effect of each relevant unit over contexts of the relevant ones."""
        players = flatten(relevant)
        spots = jnp.nonzero(players, size=4, fill_value=total)[0]

        def worth(present):
            on = jnp.zeros(total + 1, bool).at[spots].set(present)[:total]
            return value(gates, task.model, x, task.target, unflatten(on, units))

        table = jax.vmap(worth)(memberships(4))
        moves = jnp.stack([jnp.abs(table - table[jnp.arange(16) ^ (1 << i)]) for i in range(4)])
        return jnp.where(spots < total, moves.max(-1), 1.0), players.sum()

    count = 24
    first = jax.tree.map(lambda leaf: leaf[:count], (batch.inputs, batch.truth["relevant"]))
    effect, size = jax.jit(jax.vmap(largest))(*first)
    assert size.min() >= 1
    assert size.max() <= 4
    assert effect.min() > 0.2


def test_the_reference_is_the_exact_shapley_value_of_the_whole_modality(drawn, scores):
    """It is efficient everywhere, and equals the enumeration of all eight units of the text."""
    task, batch, values = drawn
    gates = FeatureGates(task.modalities)
    last = values.shape[1] - 1
    for i, n in enumerate(sorted(task.modalities)):
        signed = values[:, last] - values[:, last - (1 << i)]
        np.testing.assert_allclose(scores[n].sum(-1), signed, atol=2e-6)
        outside = ~np.asarray(batch.truth["relevant"][n])
        assert np.abs(np.where(outside, scores[n], 0)).max() < 1e-6

    def table(x):
        return jax.vmap(within(gates, task.model, x, task.target, "text"))(memberships(8))

    some = {n: leaf[:5] for n, leaf in batch.inputs.items()}
    expected = shapley_values(mapped(table, some))
    np.testing.assert_allclose(scores["text"][:5], expected, atol=1e-6)


def test_what_is_recovered_is_what_was_declared(drawn, scores):
    """Where units, not sets, are the truth, exact contributions name exactly the relevant units."""
    task, batch, _ = drawn
    found = np.abs(np.concatenate([scores[n] for n in sorted(scores)], -1)) > 0.05
    declared = np.concatenate([batch.truth["relevant"][n] for n in sorted(scores)], -1)
    units = ~np.asarray(batch.truth["set_only"])
    np.testing.assert_array_equal(found[units], declared[units])
    # where a set is the truth, the game over all units finds its copies
    if not units.all():
        joint = KnownContributions(
            task.modalities, task.reference.world, task.reference.players, joint=True
        )
        few = jax.tree.map(lambda leaf: leaf[~units][:16], batch.inputs)
        both = mapped(lambda x: joint(task.model, x, task.target), few)
        found = np.abs(np.concatenate([both[n] for n in sorted(both)], -1)) > 0.05
        np.testing.assert_array_equal(found, declared[~units][:16])


def test_a_key_gives_the_same_batch_and_other_keys_and_seeds_give_others():
    one, two = TASKS["mixed"](0), TASKS["mixed"](1)
    draw = jax.jit(lambda sampler, key: sampler(key, 32))
    batch = draw(one.sample, jax.random.key(1))
    chex.assert_trees_all_equal(batch, draw(TASKS["mixed"](0).sample, jax.random.key(1)))
    again = draw(one.sample, jax.random.key(2))
    assert not np.array_equal(batch.inputs["image"], again.inputs["image"])
    other = draw(two.sample, jax.random.key(1))
    assert not np.array_equal(batch.inputs["image"], other.inputs["image"])
    # the other world's markers are different: its model does not read this world's units
    wrong = mapped(two.model, batch.inputs)[:, 1] > 0.5
    assert np.mean(wrong == batch.labels) < 0.9


def modes(name, n=N):
    task = TASKS[name](7)
    batch = batch_of(task, n)
    gates = FeatureGates(task.modalities)
    values = mapped(lambda x: coalition_values(gates, task.model, x, 1), batch.inputs)
    single, joint = effects(task, np.asarray(values))
    mode = np.asarray(batch.truth["mode"])
    every = single | {"joint": joint}
    found = {m: {k: v[mode == i] for k, v in every.items()} for i, m in enumerate(task.modes)}
    return task, found


def occlusion(task, inputs):
    """``|v(x) - v(x without patch u)|`` for all patches, every value by the same program."""
    gates = FeatureGates(task.modalities)

    @jax.jit
    def without(unit):
        closed = full(gates.units) | {"image": jnp.arange(16) != unit}
        return jax.vmap(lambda x: gates(task.model, x, closed)[1])(inputs)

    values = np.stack([without(unit) for unit in range(17)], -1)
    return np.abs(values[:, :16] - values[:, 16:])


def test_xor_needs_both_and_redundancy_either():
    _, xor = modes("xor")
    assert xor["xor"]["image"].min() > 0.4
    np.testing.assert_allclose(xor["xor"]["image"], xor["xor"]["joint"], atol=1e-6)
    np.testing.assert_allclose(xor["xor"]["text"], xor["xor"]["joint"], atol=1e-6)
    _, copies = modes("redundant")
    # a copy that goes is felt, barely: 1 - tanh(3) of the range
    assert max(copies["redundant"]["image"].max(), copies["redundant"]["text"].max()) < 1e-3
    assert copies["redundant"]["joint"] == pytest.approx(0.45, abs=0.03)


def test_either_twin_suffices_and_both_count_alike():
    task = TASKS["duplicated"](2)
    batch = batch_of(task, 40)
    scores = contributions(task, batch.inputs)["image"]
    twins = np.asarray(batch.truth["relevant"]["image"])
    pairs = np.asarray(scores)[twins].reshape(-1, 2)
    np.testing.assert_allclose(pairs[:, 0], pairs[:, 1], atol=1e-6)
    assert occlusion(task, batch.inputs).max() < 1e-3
    signed = 2 * np.asarray(batch.labels) - 1
    np.testing.assert_allclose(pairs.sum(-1), signed * 0.45, atol=0.03)


def test_only_the_patch_that_the_token_names_matters():
    task = TASKS["gated"](0)
    batch = batch_of(task, 60)
    reads = mapped(task.reference.world.unit_reads, batch.inputs)["image"]
    marked = np.asarray(jnp.abs(reads).max(-1) > 0.5)
    assert np.all(marked.sum(-1) == 4)
    change = occlusion(task, batch.inputs)
    selected = np.asarray(batch.truth["relevant"]["image"])
    assert np.all(selected.sum(-1) == 1)
    assert change[selected].min() > 0.4
    assert change[~selected].max() == 0


def test_opposing_units_cancel_without_being_unused():
    task = TASKS["cancelling"](0)
    _, found = modes("cancelling")
    assert found["balanced"]["image"].max() < 1e-6
    assert found["balanced"]["text"].min() > 0.4
    batch = batch_of(task, 100)
    scores = contributions(task, batch.inputs)["image"]
    patches = np.asarray(batch.truth["relevant"]["image"])
    assert np.abs(np.asarray(scores)[patches]).min() > 0.1


def test_mixed_has_the_five_designed_modes_in_two_and_three_modalities():
    expected = {
        "unique image": ("image",),
        "unique text": ("text",),
        "product": ("image", "text"),
        "redundant": (),
        "duplicated": ("image",),
        "unique audio": ("audio",),
        "product of text and audio": ("audio", "text"),
        "redundant audio": (),
    }
    for name, count in (("mixed", 5), ("mixed3", 8)):
        task, found = modes(name)
        assert set(found) == set(list(expected)[:count])
        for mode, df in found.items():
            assert df["joint"].min() > 0.4, mode
            for n in task.modalities:
                if n in expected[mode]:
                    assert df[n].min() > 0.4, (mode, n)
                else:
                    copy = mode.startswith(("redundant", "duplicated"))
                    assert df[n].max() < (1e-3 if copy else 1e-6), (mode, n)


def test_gradients_are_finite_and_reach_the_units_that_are_not_saturated():
    task = TASKS["xor"](0)
    batch = batch_of(task, 20)
    slopes = mapped(jax.grad(lambda x: task.model(x)[1]), batch.inputs)
    for n, modality in task.modalities.items():
        size = jax.vmap(lambda s, m=modality: m.reduce(jnp.abs(s)))(slopes[n])
        marked = np.asarray(batch.truth["relevant"][n])
        assert np.asarray(size)[marked].min() > 1e-3
        assert np.asarray(size)[~marked].max() == 0


def test_double_precision_agrees(x64):
    task = TASKS["mixed"](0)
    batch = batch_of(task, 16)
    assert batch.inputs["image"].dtype == jnp.float32
    double = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf,
        (task.model, batch.inputs),
    )
    outputs = mapped(double[0], double[1])
    assert outputs.dtype == jnp.float64
    np.testing.assert_allclose(outputs, mapped(task.model, batch.inputs), atol=1e-5)


TWO = {"a": Modality.tokens(3, 2), "b": Modality.columns(4)}
READ = [Term("sum", (Bit("a", 0),))]


@pytest.mark.parametrize(
    ("terms", "declared", "message"),
    [
        (READ, [Mode("m", 0.5, (Place("a", 0),))], "weights that sum to 0.5"),
        (READ, [Mode("m", 1.0, (Place("a", 0),) * 4)], "writes 4 units into 'a': it has 3"),
        (READ, [Mode("m", 1.0, (Place("a", 2),))], "channel is 2 in 'a': use 0 to 1"),
        (READ, [Mode("m", 1.0, (Place("c", 0),))], "modality is 'c'"),
        ([Term("sum", (Bit("b", 4),))], [Mode("m", 1.0, ())], "channel is 4 in 'b': use 0 to 3"),
        (
            [Term("sum", (Bit("b", 1),))],
            [Mode("m", 1.0, (Place("b", 1),) * 3)],
            "writes one channel of 'b' 3 times, and 4 units of one entry share 2 channels",
        ),
        ([], [Mode("m", 1.0, ())], "are empty"),
        ([Term("max", (Bit("a", 0),))], [Mode("m", 1.0, ())], "op is 'max'"),
    ],
)
def test_declarations_that_make_no_world_are_refused(terms, declared, message):
    with pytest.raises(InputError, match=message):
        world("bad", 0, TWO, terms, declared, "")


def test_a_user_declares_a_world_of_three_way_parity():
    modalities = {
        "a": Modality.tokens(3, 2),
        "b": Modality.frames(4, 3),
        "c": Modality.patches((4, 4), 2),
    }
    term = Term("product", (Bit("a", 0), Bit("b", 1), Bit("c", 2)))
    mode = Mode("parity", 1.0, (Place("a", 0, "p"), Place("b", 1, "q"), Place("c", 2, "pqy")))
    task = world("parity", 0, modalities, [term], [mode], "Three signs are multiplied.")
    batch = batch_of(task, 64)
    outputs = mapped(task.model, batch.inputs)
    np.testing.assert_array_equal(outputs.argmax(-1), batch.labels)
    gates = FeatureGates(modalities)
    values = mapped(lambda x: coalition_values(gates, task.model, x, 1), batch.inputs)
    assert np.all(np.asarray(values)[:, :-1] == 0.5)
    assert task.reference.evaluations == 6
