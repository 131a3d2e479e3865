"""Analytic worlds: synthetic multimodal problems whose model and true contributions are known.

Each is a declaration in the algebra of :mod:`mmx_jax.tasks.algebra`. An example is an 8 x 8 image
of 4 x 4 patches and a text of 8 token vectors (and a sound of 8 frames where there are three
modalities). Every example also holds loud units that no term reads, and most of ``mixed`` a
product bit without its partner: both catch the eye and are exact null players.
"""

from mmx_jax.modality import Modality
from mmx_jax.tasks.algebra import Bit, Mode, Place, Term
from mmx_jax.tasks.task import Task
from mmx_jax.tasks.world import world

__all__ = [
    "cancelling",
    "duplicated",
    "gated",
    "mixed",
    "mixed3",
    "redundant",
    "shortcut",
    "unique",
    "xor",
]


def _two() -> dict[str, Modality]:
    return {"image": Modality.patches((8, 8), 2), "text": Modality.tokens(8, 8)}


def _three() -> dict[str, Modality]:
    return _two() | {"audio": Modality.frames(8, 6)}


def _loud(modality: str, channel: int, letter: str = "z") -> Place:
    """A unit as loud as any other that no term reads."""
    return Place(modality, channel, letter, relevant=False)


LOUD = (_loud("image", 3, "v"), _loud("text", 7, "w"))


def unique(seed: int = 0) -> Task:
    """Two patches each carry half of the label; the text is never used."""
    return world(
        "unique",
        seed,
        _two(),
        [Term("sum", (Bit("image", 0, 0.6),))],
        [Mode("unique image", 1.0, (Place("image", 0), Place("image", 0), *LOUD))],
        "Two image patches add up to the answer; the text is noise.",
    )


def redundant(seed: int = 0) -> Task:
    """A patch and a token carry the same bit, and either suffices."""
    return world(
        "redundant",
        seed,
        _two(),
        [Term("either", (Bit("image", 0), Bit("text", 0)))],
        [Mode("redundant", 1.0, (Place("image", 0), Place("text", 0), *LOUD), set_only=True)],
        "One patch and one token say the same; either alone suffices.",
    )


def duplicated(seed: int = 0) -> Task:
    """Two patches of one image carry the same bit, and either suffices."""
    return world(
        "duplicated",
        seed,
        _two(),
        [Term("either", (Bit("image", 0),))],
        [Mode("duplicated", 1.0, (Place("image", 0), Place("image", 0), *LOUD), set_only=True)],
        "Two patches of the image say the same; either alone suffices. The text is noise.",
    )


def xor(seed: int = 0) -> Task:
    """The product of an image bit and a text bit: neither alone says anything."""
    image = (Place("image", 0, "a"), Place("image", 0, "a"))
    return world(
        "xor",
        seed,
        _two(),
        [Term("product", (Bit("image", 0, 0.5), Bit("text", 0)))],
        [Mode("xor", 1.0, (*image, Place("text", 0, "ay"), *LOUD))],
        "The answer is whether the image's sign equals the text's: pure synergy.",
    )


def gated(seed: int = 0) -> Task:
    """One token says which of four marked patches counts; the other three are null players."""
    letters = ("a", "b", "c", "d")
    terms = [Term("gate", (Bit("text", q), Bit("image", q))) for q in range(4)]
    modes = []
    for q in range(4):
        others = tuple(Place("image", p, letters[p], relevant=False) for p in range(4) if p != q)
        places = (Place("image", q), Place("text", q, "+"), *others, _loud("text", 7))
        modes.append(Mode(f"gate to patch {q}", 0.25, places))
    return world(
        "gated",
        seed,
        _two(),
        terms,
        modes,
        "A token says which of four marked patches is the answer; the other three don't matter.",
    )


def cancelling(seed: int = 0) -> Task:
    """Units oppose each other, in half of the examples so that a whole modality has no effect."""
    balanced = (Place("image", 0, "a"), Place("image", 0, "-a"), Place("text", 0))
    opposed = (Place("image", 0), Place("image", 0), Place("image", 0, "-y"))
    return world(
        "cancelling",
        seed,
        _two(),
        [Term("sum", (Bit("image", 0, 0.8), Bit("text", 0)))],
        [Mode("balanced", 0.5, (*balanced, *LOUD)), Mode("opposed", 0.5, (*opposed, *LOUD))],
        "Patches speak for and against the answer; sometimes they cancel and the text decides.",
    )


def shortcut(seed: int = 0, rate: float = 0.9) -> Task:
    """A distractor: the model reads a token that agrees with the true bit at ``rate``.

    The label is written in the image; the exact model ignores it. What predicts the label is not
    what the model uses. The truth is the exact model's: a network trained on the labels finds
    them in the image.
    """
    image = (_loud("image", 0, "y"), _loud("image", 3, "v"), _loud("text", 7, "w"))
    return world(
        "shortcut",
        seed,
        _two(),
        [Term("sum", (Bit("text", 0),))],
        [
            Mode("shortcut agrees", rate, (Place("text", 0), *image)),
            Mode("shortcut misleads", 1 - rate, (Place("text", 0, "-y"), *image)),
        ],
        "The image holds the label, but the model reads a token that usually agrees with it.",
    )


_UNIQUE = {m: (Place(m, 0), Place(m, 0)) for m in ("image", "text", "audio")}
_MIXED_TERMS = (
    Term("sum", (Bit("image", 0, 0.6), Bit("text", 0, 0.6))),
    Term("product", (Bit("image", 1), Bit("text", 1))),
    Term("either", (Bit("image", 2), Bit("text", 2))),
)
_NO_TEXT_BIT = _loud("image", 1, "d")  # half of a product: without its partner a null player
_NO_IMAGE_BIT = _loud("text", 1, "d")


def _mixed_modes(share: float) -> list[Mode]:
    product = (Place("image", 1, "a"), Place("text", 1, "ay"))
    redundancy = (Place("image", 2), Place("text", 2))
    duplicates = (Place("image", 2), Place("image", 2))
    return [
        Mode("unique image", share, (*_UNIQUE["image"], _NO_TEXT_BIT, *LOUD)),
        Mode("unique text", share, (*_UNIQUE["text"], _NO_TEXT_BIT, *LOUD)),
        Mode("product", share, (*product, *LOUD)),
        Mode("redundant", share, (*redundancy, _NO_IMAGE_BIT, *LOUD), set_only=True),
        Mode("duplicated", share, (*duplicates, _NO_IMAGE_BIT, *LOUD), set_only=True),
    ]


def mixed(seed: int = 0) -> Task:
    """Each example in one of five modes: unique image, unique text, product, redundant, duplicated.

    The mode must be read from the example itself, so an explainer can't rely on one pattern.
    """
    return world(
        "mixed",
        seed,
        _two(),
        _MIXED_TERMS,
        _mixed_modes(1 / 5),
        "Each example is answered by its image, its text, both together, either, or twin patches.",
    )


def mixed3(seed: int = 0) -> Task:
    """The five modes of ``mixed`` beside a sound, and three that need the sound.

    These are unique audio, the product of text and audio, and redundancy of image and audio; in
    every mode at least one modality is never used.
    """
    hiss = _loud("audio", 5, "u")
    modes = [mode._replace(places=(*mode.places, hiss)) for mode in _mixed_modes(1 / 8)]
    both = (Place("text", 3, "a"), Place("audio", 1, "ay"))
    copies = (Place("image", 2), Place("audio", 2))
    modes += [
        Mode("unique audio", 1 / 8, (*_UNIQUE["audio"], _NO_TEXT_BIT, *LOUD, hiss)),
        Mode("product of text and audio", 1 / 8, (*both, _NO_TEXT_BIT, *LOUD, hiss)),
        Mode("redundant audio", 1 / 8, (*copies, _NO_IMAGE_BIT, *LOUD, hiss), set_only=True),
    ]
    total, product, either = _MIXED_TERMS
    terms = [
        Term("sum", (*total.bits, Bit("audio", 0, 0.6))),
        product,
        Term("product", (Bit("text", 3), Bit("audio", 1))),
        Term("either", (*either.bits, Bit("audio", 2))),
    ]
    return world(
        "mixed3",
        seed,
        _three(),
        terms,
        modes,
        "As mixed, with a sound as third modality; no example needs all three.",
    )
