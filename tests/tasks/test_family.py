"""The family of worlds: what is declared is what interventions, data and brute force find."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import FeatureGates, Modality
from mmx_jax.errors import InputError
from mmx_jax.interactions import intershap
from mmx_jax.model import LOG_ODDS
from mmx_jax.numerics import derive_key
from mmx_jax.tasks import (
    WORLDS,
    Bit,
    Mode,
    Place,
    Term,
    conflicting,
    draw,
    exact_games,
    found,
    gate,
    identify,
    misleading,
    mixture,
    redundancy,
    release,
    suppressing,
    synergy,
    uniqueness,
    world,
)
from mmx_jax.tasks.observed import posterior, posterior_of_parts

N = 300
SMALL = {"text": Modality.tokens(6, 4), "table": Modality.columns(9)}


def drawn(task, n=N, seed=1):
    return jax.jit(task.sample, static_argnums=1)(jax.random.key(seed), n)


@pytest.mark.parametrize("name", ["sarcasm", "tabular-graphs", "gated"])
def test_the_declared_truth_of_a_released_world_is_found_again(name):
    result = identify(WORLDS[name](5), examples=48)
    assert result.from_model, result.reasons
    # a shortcut's truth is its model's: of the data it can't be told, and the check says so
    assert result.from_data == (name != "tabular-graphs"), result.reasons
    assert bool(result.reasons) == (not result.from_data)
    assert all("shortcut" in reason for reason in result.reasons)


def switching(first, second):
    """Views a and b, and a third one that says which counts; the idle marks are given."""
    modalities = {n: Modality.tokens(4, 4) for n in ("a", "b", "switch")}
    terms = [Term("gate", (Bit("switch", i), Bit(n, 0))) for i, n in enumerate("ab")]
    modes = [
        Mode("a counts", 0.5, (Place("switch", 0, "+"), Place("a", 0), first)),
        Mode("b counts", 0.5, (Place("switch", 1, "+"), Place("b", 0), second)),
    ]
    return world("switch", 0, modalities, terms, modes, "")


def test_an_aliased_switch_is_not_identifiable():
    """The swap of views that copies one onto the other: the model's truth stands, the data's not.

    In that half either view predicts the label, and only one of them is declared.
    """
    free = (Place("b", 0, "q", relevant=False), Place("a", 0, "q", relevant=False))
    sound = identify(switching(*free), examples=24)
    assert (sound.from_model, sound.from_data, sound.reasons) == (True, True, ())
    aliased = identify(switching(Place("b", 0, "y", relevant=False), free[1]), examples=24)
    assert aliased.from_model
    assert not aliased.from_data
    assert aliased.reasons == (
        "a counts: channel 0 of b is declared irrelevant and predicts the label",
    )


def test_a_false_declaration_is_found_by_interventions_and_in_the_data():
    term = [Term("product", (Bit("text", 0), Bit("table", 0)))]
    places = (Place("text", 0, "a"), Place("table", 0, "ay", relevant=False))
    task = world("false", 0, SMALL, term, [Mode("m", 1.0, places)], "")
    result = identify(task, examples=16)
    assert not result.from_model
    assert "other units of table than declared on 16 of 16 examples" in result.reasons[0]
    assert "other pairs of table and text" in result.reasons[1]
    unread = Place("table", 1, "z")
    task = world("idle", 0, SMALL, term, [Mode("m", 1.0, (*places[:1], unread))], "")
    reasons = identify(task, examples=16).reasons
    assert any("channel 1 of table is declared relevant and says nothing" in r for r in reasons)


def test_games_of_modalities_equal_brute_force():
    """Values by removing modalities one after the other, dividends and Shapley by definition."""
    task = WORLDS["tabular-graphs"](2)
    batch = drawn(task, 24)
    games = exact_games(task, batch.inputs)
    gates = FeatureGates(task.modalities)
    run = jax.jit(jax.vmap(lambda x: task.model(x)[1]))
    gone = {m: jax.vmap(lambda x, m=m: gates.ablate(x, m))(batch.inputs) for m in task.modalities}
    neither = jax.vmap(lambda x: gates.ablate(gates.ablate(x, "graph"), "table"))(batch.inputs)
    v = {m: np.asarray(run(x)) for m, x in gone.items()}
    whole, none = np.asarray(run(batch.inputs)), np.asarray(run(neither))
    graph, table = v["table"], v["graph"]  # what is left when the other one goes
    np.testing.assert_allclose(games.values, np.stack([none, graph, table, whole], -1), atol=1e-6)
    np.testing.assert_allclose(games.moebius[:, 3], whole - graph - table + none, atol=1e-6)
    phi = (graph - none + whole - table) / 2
    np.testing.assert_allclose(games.shapley["graph"], phi, atol=1e-6)


@pytest.mark.parametrize("m", [4])
def test_parity_has_one_dividend_and_the_published_intershap(m):
    modalities = {f"m{i}": Modality.tokens(3, 3) for i in range(m)}
    task = mixture("parity", modalities, [(1.0, synergy(*modalities))])
    batch = drawn(task, 40)
    games = exact_games(task, batch.inputs, LOG_ODDS)
    np.testing.assert_allclose(games.moebius[:, :-1], 0, atol=1e-5)
    assert np.abs(games.moebius[:, -1]).min() > 2
    for phi in games.shapley.values():
        np.testing.assert_allclose(phi, games.values[:, -1] / m, atol=1e-5)
    labelled = games.values * np.where(np.asarray(batch.labels), 1, -1)[:, None]
    result = intershap(labelled)
    assert float(result.total) == pytest.approx(50 * m / (m - 1), abs=0.01)
    assert float(result.moebius) == pytest.approx(100, abs=1e-3)
    assert sum(int(p.sum()) for p in batch.truth["pairs"].values()) == 40 * m * (m - 1) // 2


def test_every_structure_over_every_kind_of_data():
    """One mixture of all structures per pair of kinds; the model answers, alone the parts don't."""
    kinds = [
        ("image", Modality.patches((8, 12), (2, 6)), "audio", Modality.frames(8, 12)),
        ("table", Modality.columns(30), "text", Modality.tokens(8, 12)),
    ]
    for a, first, b, second in kinds:
        structures = [
            uniqueness(a, 3),
            synergy(a, b),
            redundancy(a, b),
            redundancy(a, a),
            gate(b, a, 2),
            misleading(a, b, 0.7),
            conflicting(a, b),
            suppressing(a, b),
        ]
        parts = [(1 / len(structures), s) for s in structures]
        task = mixture("all", {a: first, b: second}, parts, seed=3)
        batch = drawn(task)
        right = np.asarray(jax.jit(jax.vmap(task.model))(batch.inputs)).argmax(-1) == batch.labels
        mode = np.asarray(batch.truth["mode"])
        misled = mode == task.modes.index(f"shortcut in {a} misleads")
        np.testing.assert_array_equal(right, ~misled)
        seen = found(task, batch.inputs)
        for m in task.modalities:
            np.testing.assert_array_equal(seen.relevant[m], batch.truth["relevant"][m])
        pair = tuple(sorted((a, b)))
        np.testing.assert_array_equal(seen.pairs[pair], batch.truth["pairs"][pair])
        copies = [i for i, name in enumerate(task.modes) if name.startswith("redundant")]
        np.testing.assert_array_equal(batch.truth["set_only"], np.isin(mode, copies))


def test_the_tone_flips_the_words_and_the_suppressor_alone_says_nothing():
    task = WORLDS["sarcasm"](0)
    batch = drawn(task)
    games = exact_games(task, batch.inputs)  # audio, image, text
    clean = np.where(np.asarray(batch.labels)[:, None], games.values, 1 - games.values)
    flipped = np.asarray(batch.truth["mode"]) == task.modes.index("audio flips text")
    assert clean[:, -1].min() > 0.9
    assert clean[flipped, 0b110].max() < 0.1  # without the tone the words mean the opposite
    assert clean[~flipped, 0b110].min() > 0.9
    np.testing.assert_allclose(games.values[:, 0b001], 0.5, atol=1e-6)
    # over all units the flipped words cancel: the truth of that game is open
    assert np.abs(games.shapley["text"][flipped]).max() < 0.05
    assert np.abs(games.shapley["text"][~flipped]).min() > 0.4
    task = WORLDS["suppressor"](0)
    batch = drawn(task)
    games = exact_games(task, batch.inputs)
    alone, both = games.values[:, 2], games.values[:, 3]  # the table; graph and table
    labels = np.asarray(batch.labels)
    assert np.mean((both > 0.5) == labels) == 1
    gap = alone[labels == 1].mean() - alone[labels == 0].mean()
    assert abs(gap) < 4 * 2 * alone.std() / np.sqrt(N)
    assert np.abs(alone - 0.5).min() > 0.3  # and yet it moves the output


def test_the_optimal_prediction_is_the_frequency_of_the_label():
    """Two modes write the same marks for opposite labels, and a fifth of the labels is flipped."""
    part = misleading("text", "table", 0.8)
    modes = tuple(m._replace(places=m.places[:1]) for m in part.modes)
    parts = [(0.5, part._replace(modes=modes)), (0.5, synergy("text", "table"))]
    task = mixture("odds", SMALL, parts, noise=0.2)
    batch = drawn(task, 4000)
    optimal, labels = np.asarray(batch.truth["optimal"]), np.asarray(batch.labels)
    values, index = np.unique(optimal.round(4), return_inverse=True)
    np.testing.assert_allclose(values, [0.2, 0.32, 0.68, 0.8], atol=1e-4)
    for i, p in enumerate(values):
        hits = labels[index == i]
        assert abs(hits.mean() - p) < 4 * np.sqrt(p * (1 - p) / len(hits))
    # parity of hidden parts: nothing is known until both are seen
    table = posterior_of_parts([synergy("text", "table").modes[0]])[0]
    np.testing.assert_allclose(table[:, :3], 0.5)
    assert set(np.unique(table[:, 3])) == {0.0, 1.0}
    assert set(np.unique(posterior(parts[0][1].modes)).round(9)) == {0.2, 0.8}


def test_graphs_have_edges_that_say_nothing():
    batch = drawn(WORLDS["suppressor"](1), 50)
    edges = np.asarray(batch.inputs["graph"]["adjacency"])
    np.testing.assert_array_equal(edges, edges.swapaxes(1, 2))
    assert set(np.unique(edges)) == {0, 1}
    assert 0.3 < edges[:, ~np.eye(8, dtype=bool)].mean() < 0.5
    assert jnp.all(jnp.diagonal(edges, axis1=1, axis2=2) == 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixture("x", {}, [(1.0, uniqueness("text"))]), "modalities is empty"),
        (lambda: mixture("x", SMALL, []), "parts is empty"),
        (
            lambda: mixture("x", SMALL, [(0.5, uniqueness("text")), (0.4, uniqueness("table"))]),
            "weights that sum to 0.9: use positive ones, sum 1",
        ),
        (
            lambda: mixture("x", SMALL, [(np.nan, uniqueness("text")), (1.0, synergy(*SMALL))]),
            "weights that sum to nan",
        ),
        (
            lambda: mixture("x", SMALL, [(-0.5, uniqueness("text")), (1.5, synergy(*SMALL))]),
            "have a weight of -0.5",
        ),
        (lambda: mixture("x", SMALL, [(1.0, uniqueness("sound"))]), "parts name 'sound'"),
        (lambda: uniqueness("text", 0), "parts is 0"),
        (
            lambda: mixture(
                "x", {"text": Modality.token_ids(4, 9, 0)}, [(1.0, uniqueness("text"))]
            ),
            r"modalities\['text'\] holds integers",
        ),
        (
            lambda: mixture(
                "x",
                {"text": Modality.tokens(4, 3).with_reference(np.ones((4, 3), np.float32))},
                [(1.0, uniqueness("text"))],
            ),
            "has a given reference: keep the zero one",
        ),
        (
            lambda: mixture("x", SMALL, [(0.25, synergy("text", "table"))] * 4),
            r"modalities\['text'\] has 4 entries per unit for 5 bits",
        ),
        (
            lambda: mixture("x", SMALL, [(1.0, uniqueness("text", 6))]),
            "writes 7 units into 'text': it has 6",
        ),
        (
            lambda: mixture("x", SMALL, [(0.1, uniqueness("table", 1))] * 10),
            "has 9 units of one entry for 11 bits",
        ),
        (lambda: synergy("text"), "modalities are 1 for a synergy: name 2 to 8"),
        (lambda: synergy("text", "text"), "name each once"),
        (lambda: misleading("text", "table", 1.0), "rate is 1.0"),
        (lambda: gate("text", "table", 1), "ways is 1"),
        (lambda: mixture("x", SMALL, [(1.0, uniqueness("text"))], noise=0.6), "noise is 0.6"),
    ],
)
def test_bad_worlds_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_structure_within_one_modality_has_a_channel_for_each_part():
    for make in (conflicting, suppressing, gate, misleading):
        structure = make("text", "text")
        for term in structure.terms:
            assert len({bit.channel for bit in term.bits}) == len(term.bits)
    within = {"text": Modality.tokens(8, 8)}
    result = identify(mixture("x", within, [(1.0, conflicting("text", "text"))]), examples=32)
    assert result.from_model, result.reasons


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mixed", "e1b314f53be68d3c"), ("tabular-graphs", "6133bc000006ccf7")],
)
def test_the_released_examples_never_change(name, expected):
    """A difference here alters the benchmark of others: it needs another release.VERSION."""
    task = WORLDS[name](release.SEED)
    key = derive_key(release.SEED, f"release {release.VERSION} of {name}, test")
    batch = draw(task.sample, key, 64)
    arrays = {"labels": batch.labels, "mode": batch.truth["mode"]}
    arrays |= {f"relevant/{m}": r for m, r in batch.truth["relevant"].items()}
    found = release.digest({n: np.asarray(a) for n, a in arrays.items()})
    assert (release.VERSION, found[:16]) == ("1", expected)


def test_only_declared_worlds_have_exact_games():
    from mmx_jax.tasks import TASKS

    task = TASKS["digits"](0)
    for ask in (lambda: exact_games(task, {}), lambda: found(task, {})):
        with pytest.raises(InputError, match="has no exact model"):
            ask()
    with pytest.raises(InputError, match="declares no modes"):
        identify(task)
    sampled = WORLDS["xor"](0)
    crowded = {
        "image": jnp.ones((2, 8, 8)) * 4,
        "text": jnp.einsum("k,e->ke", jnp.ones(8), sampled.model.fn.markers["text"][0])[None]
        + jnp.zeros((2, 1, 1)),
    }
    with pytest.raises(InputError, match="more marked units"):
        found(sampled, crowded)
