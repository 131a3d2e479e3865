"""Digits: real data, split by image, with notes whose statistics and words are as declared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmx_jax import check_inputs
from mmx_jax.errors import InputError
from mmx_jax.tasks import TASKS, digits, digits_shortcut
from mmx_jax.tasks.digits import NAMES, NUMERALS, VOCABULARY

N = 2000


def drawn(sampler, seed=0):
    return jax.tree.map(np.asarray, jax.jit(sampler, static_argnums=1)(jax.random.key(seed), N))


@pytest.fixture(scope="module")
def batch():
    return drawn(digits(0).sample)


def named(note):
    """The digits that a note names, by the words alone."""
    words = [VOCABULARY[i] for i in note]
    return [i for i in range(10) for w in words if w in (NAMES[i], NUMERALS[i])]


def test_images_are_scikit_learns_and_labels_what_they_show(batch):
    data = load_digits()
    known = {
        image.astype(np.float32).tobytes(): label
        for image, label in zip(data.images, data.target, strict=True)
    }
    for image, label in zip(batch.inputs["image"], batch.labels, strict=True):
        assert known[(16 * image).tobytes()] == label
    assert np.bincount(batch.labels, minlength=10).min() > N / 20


def test_inputs_fit_the_modalities_and_are_made_of_words(batch):
    task = digits(0)
    check_inputs(task.modalities, batch.inputs, batched=True)
    assert task.modalities["image"].units == 16
    assert task.modalities["note"].units == 6
    assert task.modalities["note"].labels == VOCABULARY
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert batch.inputs["note"].min() >= 0
    assert batch.inputs["note"].max() < len(VOCABULARY)
    assert (task.outputs, task.target, task.model) == (10, None, None)


def test_notes_name_the_digit_say_nothing_or_contradict_as_declared(batch):
    mode, said = batch.truth["mode"], batch.truth["named"]
    shares = np.bincount(mode, minlength=3) / N
    np.testing.assert_allclose(shares, (0.4, 0.35, 0.25), atol=0.05)
    for note, label, kind, word in zip(batch.inputs["note"], batch.labels, mode, said, strict=True):
        names = named(note)
        assert names == ([] if kind == 1 else [word])
        assert (word == label) == (kind == 0)
    wrong = (said - batch.labels)[mode == 2] % 10
    assert set(wrong) == set(range(1, 10))


def test_the_word_stands_anywhere_and_its_synonym_is_as_frequent(batch):
    words = np.array(VOCABULARY)[batch.inputs["note"]]
    numeral, name = np.isin(words, NUMERALS), np.isin(words, NAMES)
    assert ((numeral | name).sum(0) > 100).sum() >= 4
    assert numeral.sum() / (numeral | name).sum() == pytest.approx(0.5, abs=0.06)


def test_synonyms_keep_what_a_note_says():
    (move,) = digits(0).modalities["note"].moves
    table = np.array(move.table)
    np.testing.assert_array_equal(table[table], np.arange(len(VOCABULARY)))
    notes = drawn(digits(0).sample).inputs["note"]
    for note in notes[:200]:
        changed, position = move(jax.random.key(1), jnp.asarray(note), 6)
        assert named(np.asarray(changed)) == named(note)
        assert position.tolist() == list(range(6))


def test_training_and_evaluation_share_no_image_and_the_seed_moves_the_split():
    task, other = digits(0), digits(1)
    parts = [{i.tobytes() for i in s.images} for s in (task.sample, task.sample_training)]
    assert len(task.sample.images) + len(task.sample_training.images) == 1797
    assert len(task.sample_training.images) == 1438
    assert not parts[0] & parts[1]
    assert {i.tobytes() for i in other.sample.images} != parts[0]
    again = drawn(digits(0).sample)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(drawn(task.sample)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(drawn(task.sample, 1).labels, again.labels)


def test_only_naming_notes_come_without_a_picture_and_only_in_training(batch):
    training = drawn(digits(0).sample_training)
    blank = (training.inputs["image"] == 0).all((1, 2))
    assert (training.truth["mode"][blank] == 0).all()
    assert blank.sum() / (training.truth["mode"] == 0).sum() == pytest.approx(0.2, abs=0.05)
    assert not (batch.inputs["image"] == 0).all((1, 2)).any()


def test_the_shortcut_holds_in_training_and_breaks_in_evaluation():
    task = digits_shortcut(0)
    training, held_out = drawn(task.sample_training), drawn(task.sample)
    np.testing.assert_array_equal(training.truth["named"], training.labels)
    for note, label in zip(training.inputs["note"], training.labels, strict=True):
        assert named(note) == [label]
    assert not (training.inputs["image"] == 0).all((1, 2)).any()
    assert set(held_out.truth["mode"]) == {0, 1, 2}
    only = drawn(digits_shortcut(0, notes=(0.0, 0.0, 1.0)).sample)
    assert (only.truth["named"] != only.labels).all()


def test_shares_that_are_none_are_refused():
    with pytest.raises(InputError, match="three shares that sum to 1"):
        digits(0, notes=(0.5, 0.6, -0.1))


def test_every_task_of_the_table_carries_its_name_and_says_what_it_is():
    for name, build in TASKS.items():
        task = build(1)
        assert task.name == name
        assert task.description.endswith(".")
        assert len(task.target_names) == task.outputs
        assert len(set(task.modes)) == len(task.modes)
        assert (task.model is None) == (task.reference is None)
        assert hash(jax.tree.structure(task)) == hash(jax.tree.structure(build(1)))
