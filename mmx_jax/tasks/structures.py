"""The family of worlds: interaction structures over any modalities, and mixtures of them.

A structure is a small declaration with channels of its own; :func:`mixture` gives each its share of
the examples and its own channels, adds a loud unit to every modality that no term reads, and
builds the task. One structure alone is a mixture of one.
"""

from collections import Counter
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.rows import Rows
from mmx_jax.tasks.algebra import Bit, Mode, Place, Term
from mmx_jax.tasks.task import Task
from mmx_jax.tasks.world import check_weights, world

__all__ = [
    "Structure",
    "conflicting",
    "gate",
    "misleading",
    "mixture",
    "redundancy",
    "suppressing",
    "synergy",
    "uniqueness",
]

FREE = "abcdefgh"
"""Fair signs that structures use; modes may share them, since an example has one mode."""


class Structure(NamedTuple):
    """Terms and modes with channels counted from 0 in each modality; weights of modes sum to 1."""

    name: str
    terms: tuple[Term, ...]
    modes: tuple[Mode, ...]


def uniqueness(modality: str, parts: int = 2) -> Structure:
    """One modality answers: ``parts`` of its units add up."""
    if parts < 1:
        raise InputError("parts", f"is {parts}", "use at least one unit")
    name = f"unique {modality}"
    term = Term("sum", (Bit(modality, 0, 1.2 / parts),))
    return Structure(name, (term,), (Mode(name, 1.0, (Place(modality, 0),) * parts),))


def redundancy(*modalities: str) -> Structure:
    """Every named modality holds a copy of the answer, and any copy suffices; only a set is true.

    A name given twice puts two copies into one modality.
    """
    _several("redundancy", modalities, 2)
    name = f"redundant {', '.join(modalities)}"
    bits = tuple(Bit(m, 0) for m in dict.fromkeys(modalities))
    places = tuple(Place(m, 0) for m in modalities)
    return Structure(name, (Term("either", bits),), (Mode(name, 1.0, places, set_only=True),))


def synergy(*modalities: str) -> Structure:
    """Parity of one sign per modality: nothing less than all of them says anything."""
    _several("synergy", modalities, 2)
    if len(set(modalities)) < len(modalities):
        raise InputError("modalities", f"are {modalities}", "name each once in a synergy")
    name = f"parity of {', '.join(modalities)}"
    free = FREE[: len(modalities) - 1]
    letters = [*free, free + "y"]
    places = tuple(Place(m, 0, s) for m, s in zip(modalities, letters, strict=True))
    term = Term("product", tuple(Bit(m, 0) for m in modalities))
    return Structure(name, (term,), (Mode(name, 1.0, places),))


def gate(by: str, over: str, ways: int = 2) -> Structure:
    """A unit of ``by`` says which of several marked units of ``over`` counts."""
    if not 2 <= ways <= len(FREE):
        raise InputError("ways", f"is {ways}", f"use 2 to {len(FREE)}")
    first = ways if by == over else 0  # the gating marks need channels of their own
    terms = tuple(Term("gate", (Bit(by, first + q), Bit(over, q))) for q in range(ways))
    modes = []
    for q in range(ways):
        others = (Place(over, p, FREE[p], relevant=False) for p in range(ways) if p != q)
        places = (Place(over, q), Place(by, first + q, "+"), *others)
        modes.append(Mode(f"{by} opens {over} {q + 1}", 1 / ways, places))
    return Structure(f"gate of {over} by {by}", terms, tuple(modes))


def misleading(read: str, ignored: str, rate: float = 0.9) -> Structure:
    """A shortcut: ``ignored`` holds the label, the model reads a unit that agrees at ``rate``.

    The truth is the exact model's. Of the data it can't be told: there the label predicts best.
    """
    if not 0 < rate < 1:
        raise InputError("rate", f"is {rate}", "use a number between 0 and 1")
    label = Place(ignored, 1 if read == ignored else 0, relevant=False)
    modes = (
        Mode(f"shortcut in {read} agrees", rate, (Place(read, 0), label)),
        Mode(f"shortcut in {read} misleads", 1 - rate, (Place(read, 0, "-y"), label)),
    )
    return Structure(f"shortcut in {read}", (Term("sum", (Bit(read, 0),)),), modes)


def conflicting(words: str, tone: str) -> Structure:
    """Sarcasm: the tone flips what the words say. Without it they mean what they say."""
    turn = Bit(tone, int(words == tone))
    flip = Term("flip", (turn, Bit(words, 0)))
    flat = Place(tone, turn.channel, "-", relevant=False)
    sharp = Place(tone, turn.channel, "+")
    modes = (
        Mode(f"{tone} is flat", 0.5, (Place(words, 0), flat)),
        Mode(f"{tone} flips {words}", 0.5, (Place(words, 0, "-y"), sharp)),
    )
    return Structure(f"{tone} against {words}", (flip,), modes)


def suppressing(signal: str, suppressor: str) -> Structure:
    """A modality that says nothing of the answer removes the nuisance from one that does.

    ``signal`` holds y + a and ``suppressor`` the nuisance a, which is subtracted.
    """
    other = Bit(suppressor, int(signal == suppressor), -0.8)
    term = Term("sum", (Bit(signal, 0, 0.8), other))
    places = (Place(signal, 0), Place(signal, 0, "a"), Place(suppressor, other.channel, "a"))
    name = f"{suppressor} suppresses the noise of {signal}"
    return Structure(name, (term,), (Mode(name, 1.0, places),))


def mixture(
    name: str,
    modalities: dict[str, Modality],
    parts: Sequence[tuple[float, Structure]],
    seed: int = 0,
    *,
    noise: float = 0.0,
    loud: bool = True,
    description: str = "",
) -> Task:
    """A world in which every example follows one of several structures.

    Args:
      name: of the world.
      modalities: patches, tokens, frames, nodes, columns, in any combination.
      parts: weights that sum to 1, each with its structure.
      seed: of the world's parameters.
      noise: the rate at which labels are flipped.
      loud: whether every modality also holds a marked unit that no term reads.
      description: in plain words; the names of the structures by default.

    Raises:
      InputError: no modality or part, weights that don't sum to 1, an unknown modality, more
        channels than a modality can carry, more marks than units.

    >>> from mmx_jax.modality import Modality
    >>> parts = [(0.5, uniqueness("text")), (0.5, synergy("text", "table"))]
    >>> task = mixture("two", {"text": Modality.tokens(6, 4), "table": Modality.columns(8)}, parts)
    >>> task.modes
    ('unique text', 'parity of text, table')
    """
    check_modalities(modalities)
    if not parts:
        raise InputError("parts", "is empty", "give at least one weight and structure")
    check_weights("parts", [weight for weight, _ in parts])
    start: Counter[str] = Counter()
    terms, modes = [], []
    for weight, structure in parts:
        terms += [t._replace(bits=tuple(_moved(b, start) for b in t.bits)) for t in structure.terms]
        for mode in structure.modes:
            places = tuple(_moved(p, start) for p in mode.places)
            modes.append(mode._replace(weight=weight * mode.weight, places=places))
        for modality, count in _used(structure).items():
            start[modality] += count
    if loud:
        names = sorted(modalities)
        units = tuple(
            Place(m, start[m], ascii_uppercase[i], relevant=False) for i, m in enumerate(names)
        )
        modes = [mode._replace(places=(*mode.places, *units)) for mode in modes]
        start.update(names)
    _fits(modalities, start)
    return world(
        name,
        seed,
        modalities,
        terms,
        _distinct(modes),
        description or "; ".join(structure.name for _, structure in parts) + ".",
        noise,
    )


def _several(what: str, modalities: tuple[str, ...], least: int) -> None:
    if len(modalities) < least or len(modalities) > len(FREE):
        raise InputError(
            "modalities", f"are {len(modalities)} for a {what}", f"name {least} to {len(FREE)}"
        )


def _moved(item: Any, start: Counter[str]) -> Any:
    return item._replace(channel=item.channel + start[item.modality])


def _used(structure: Structure) -> dict[str, int]:
    items = [*(b for t in structure.terms for b in t.bits)]
    items += [p for mode in structure.modes for p in mode.places]
    out: dict[str, int] = {}
    for item in items:
        out[item.modality] = max(out.get(item.modality, 0), item.channel + 1)
    return out


def _fits(modalities: dict[str, Modality], channels: Counter[str]) -> None:
    for name in channels:
        if name not in modalities:
            raise InputError("parts", f"name {name!r}", f"use {', '.join(sorted(modalities))}")
        rows = Rows.of(modalities[name])
        room = rows.size if rows.size > 1 else rows.units
        if channels[name] > room:
            kind = "entries per unit" if rows.size > 1 else "units of one entry"
            raise InputError(
                f"modalities[{name!r}]",
                f"has {room} {kind} for {channels[name]} bits",
                f"give it at least {channels[name]} {kind}, or mix fewer structures",
            )


def _distinct(modes: list[Mode]) -> list[Mode]:
    """Modes with a number behind names that are used before."""
    seen: Counter[str] = Counter()
    out = []
    for mode in modes:
        seen[mode.name] += 1
        again = f" ({seen[mode.name]})" if seen[mode.name] > 1 else ""
        out.append(mode._replace(name=mode.name + again))
    return out
