"""Real handwritten digits with a written note: the images are scikit-learn's, 8 x 8 pixels.

The data are the UCI optical digits (Alpaydin and Kaynak 1998) as shipped with scikit-learn. A
note of six words may name the digit, say nothing of it, or contradict it.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sklearn.datasets import load_digits

from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.tasks.task import Batch, Task
from mmx_jax.typing import PRNGKey, record

__all__ = ["MODES", "VOCABULARY", "DigitSampler", "digits", "digits_shortcut"]

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUMERALS = tuple("0123456789")
PAIRS = (
    ("picture", "image"),
    ("shows", "displays"),
    ("written", "drawn"),
    ("number", "digit"),
    ("scan", "copy"),
    ("here", "there"),
)
OTHERS = ("[none]", "this", "the", "a", "by", "hand", "we", "see", "is", "on", "paper")
VOCABULARY = OTHERS + NAMES + NUMERALS + tuple(word for pair in PAIRS for word in pair)
"""Words of the notes by id; id 0 stands for no word."""

NAMING = (
    "this picture shows a written #",
    "the number # written by hand",
    "# is on this scan here",
    "we see a # on paper",
    "here the hand written #",
)
NEUTRAL = (
    "this picture shows a written number",
    "the number is written by hand",
    "paper is on this scan here",
    "we see a number on paper",
    "here the hand written number",
)
MODES = ("the note names it", "the note is neutral", "the note contradicts it")
LENGTH = 6


def _ids(template: str) -> list[int]:
    ids = [-1 if word == "#" else VOCABULARY.index(word) for word in template.split()]
    return ids + [0] * (LENGTH - len(ids))


def _synonyms() -> list[int]:
    pairs = dict((*zip(NAMES, NUMERALS, strict=True), *PAIRS))
    pairs |= {b: a for a, b in pairs.items()}
    return [VOCABULARY.index(pairs.get(word, word)) for word in VOCABULARY]


@record
class DigitSampler:
    """``sampler(key, n) -> Batch`` of images drawn from a split, each with a fresh note.

    Attributes:
      images: of the split, pixels in [0, 1].
      digits: what they show.
      shares: of notes that name the digit, are neutral, and contradict it.
      blank: the share of naming notes that come without a picture.
    """

    images: Float[np.ndarray, "split 8 8"]
    digits: Int[np.ndarray, "split"]
    shares: Float[np.ndarray, "3"]
    blank: Float[np.ndarray, ""]

    def __call__(self, key: PRNGKey, n: int) -> Batch:
        """A batch of ``n`` examples; ``truth`` holds ``mode`` and ``named``, -1 for no digit."""
        # one draw for everything: each further call of the generator costs compile time
        draw = jax.random.uniform(key, (n, 5 + LENGTH), jnp.float32)
        rows = _below(draw[:, 0], self.digits.shape[0])
        digits = jnp.asarray(self.digits)[rows]
        ends = jnp.cumsum(jnp.asarray(self.shares))[:2]
        mode = jnp.sum(draw[:, 1, None] >= ends, -1).astype(jnp.int32)
        wrong = (digits + 1 + _below(draw[:, 2], 9)) % 10
        named = jnp.where(mode == 2, wrong, digits)
        texts = jnp.array([[_ids(t) for t in NAMING], [_ids(t) for t in NEUTRAL]], jnp.int32)
        note = texts[(mode == 1).astype(jnp.int32), _below(draw[:, 3], len(NAMING))]
        note = jnp.where(note < 0, VOCABULARY.index(NAMES[0]) + named[:, None], note)
        synonyms = jnp.array(_synonyms(), jnp.int32)
        note = jnp.where(draw[:, 5:] < 0.5, synonyms[note], note)
        blank = (mode == 0) & (draw[:, 4] < jnp.asarray(self.blank))
        images = jnp.where(blank[:, None, None], 0.0, jnp.asarray(self.images)[rows])
        truth = {"mode": mode, "named": jnp.where(mode == 1, -1, named)}
        return Batch({"image": images, "note": note}, digits, truth)


def _below(draw: Float[Array, "n"], count: int) -> Int[Array, "n"]:
    return jnp.minimum((draw * count).astype(jnp.int32), count - 1)


@cache
def _load() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8) / 16
    return images, np.asarray(labels, np.int32)


def _task(
    name: str,
    seed: int,
    training: tuple[float, float, float],
    evaluation: tuple[float, float, float],
    blank: float,
    description: str,
) -> Task:
    for shares in (training, evaluation):
        if len(shares) != len(MODES) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise InputError("notes", f"are {shares}", "give three shares that sum to 1")
    images, labels = _load()
    order = np.random.default_rng(seed).permutation(len(labels))
    cut = len(labels) // 5

    def sampler(rows: np.ndarray, shares: tuple[float, ...], blank: float) -> DigitSampler:
        weights = np.asarray(shares, np.float32)
        return DigitSampler(images[rows], labels[rows], weights, np.asarray(blank, np.float32))

    note = Modality.token_ids(LENGTH, VOCABULARY, mask=0, synonyms=_synonyms())
    return Task(
        {"image": Modality.patches((8, 8), 2), "note": note},
        sampler(order[:cut], evaluation, 0.0),
        sampler(order[cut:], training, blank),
        None,
        None,
        name=name,
        outputs=10,
        target=None,
        target_names=NAMES,
        modes=MODES,
        description=description,
    )


def digits(seed: int = 0, notes: tuple[float, float, float] = (0.4, 0.35, 0.25)) -> Task:
    """Handwritten digits, each with a note that may name the digit, be neutral or contradict it.

    The label is always what the image shows. In training a fifth of the naming notes come without
    a picture, so that the note is worth reading.

    Args:
      seed: of the split into training (four fifths of the images) and evaluation.
      notes: shares of naming, neutral and contradicting notes, in both splits.
    """
    text = "Read a handwritten digit; a note beside it may name it, say nothing, or be wrong."
    return _task("digits", seed, notes, notes, 0.2, text)


def digits_shortcut(seed: int = 0, notes: tuple[float, float, float] = (0.4, 0.35, 0.25)) -> Task:
    """The same, but in training the note always names the digit: a model may ignore the image.

    The first figure of Agarwal, *Rethinking Explainability in the Era of Multimodal AI* (2025).

    Args:
      seed: of the split.
      notes: shares of naming, neutral and contradicting notes in the evaluation split.
    """
    text = "In training the note always names the digit, so a model may never look at the image."
    return _task("digits-shortcut", seed, (1.0, 0.0, 0.0), notes, 0.0, text)
