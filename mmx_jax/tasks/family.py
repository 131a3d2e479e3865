"""The released worlds of the family: structures that the first nine lack, over all kinds of data.

Two modalities never tell an approximation for pairs from the real thing, and images and texts
are not all there is: these worlds have three to five modalities, graphs and tables among them.
"""

from mmx_jax.modality import Modality
from mmx_jax.tasks.structures import (
    conflicting,
    gate,
    misleading,
    mixture,
    redundancy,
    suppressing,
    synergy,
    uniqueness,
)
from mmx_jax.tasks.task import Task

__all__ = ["noisy", "parity3", "parity4", "parity5", "sarcasm", "suppressor", "tabular_graphs"]


def _speech() -> dict[str, Modality]:
    return {
        "image": Modality.patches((8, 8), 2),
        "text": Modality.tokens(8, 8),
        "audio": Modality.frames(8, 6),
    }


def _records() -> dict[str, Modality]:
    return {"graph": Modality.nodes(8, 12), "table": Modality.columns(22)}


def _five() -> dict[str, Modality]:
    return {
        "image": Modality.patches((4, 4), 2),
        "text": Modality.tokens(4, 4),
        "audio": Modality.frames(4, 4),
        "graph": Modality.nodes(4, 4),
        "table": Modality.columns(4),
    }


def sarcasm(seed: int = 0) -> Task:
    """The tone of a voice flips what the words say in half of the examples; the face is noise.

    Flipped words say the opposite alone of what they say in company, so in the game of all units
    their Shapley value is about 0, though nothing is said without them: the truth of that game is
    open, while within the text they have all of its effect.
    """
    return mixture(
        "sarcasm",
        _speech(),
        [(1.0, conflicting("text", "audio"))],
        seed,
        description="A frame of the sound may turn a token into its opposite: sarcasm.",
    )


def parity3(seed: int = 0) -> Task:
    """Parity of a patch, a token and a frame: no two of them say anything."""
    return mixture("parity3", _speech(), [(1.0, synergy("image", "text", "audio"))], seed)


def parity4(seed: int = 0) -> Task:
    """Parity of four modalities, beside a table that is noise."""
    return mixture("parity4", _five(), [(1.0, synergy("image", "text", "audio", "graph"))], seed)


def parity5(seed: int = 0) -> Task:
    """Parity of a patch, a token, a frame, a node and a column."""
    parts = [(1.0, synergy("image", "text", "audio", "graph", "table"))]
    return mixture("parity5", _five(), parts, seed)


def suppressor(seed: int = 0) -> Task:
    """Two nodes hold the answer and a nuisance; a column holds the nuisance, to be subtracted."""
    return mixture(
        "suppressor",
        _records(),
        [(1.0, suppressing("graph", "table"))],
        seed,
        description="A column that says nothing of the answer takes the noise out of the graph.",
    )


def tabular_graphs(seed: int = 0) -> Task:
    """Every structure of the family over a graph and a table, in equal shares."""
    parts = [
        uniqueness("graph"),
        uniqueness("table"),
        synergy("graph", "table"),
        redundancy("graph", "table"),
        gate("table", "graph", 2),
        misleading("table", "graph", 0.8),
        conflicting("graph", "table"),
        suppressing("table", "graph"),
    ]
    weighted = [(1 / len(parts), part) for part in parts]
    description = "A graph and a table that answer in eight ways, from unique to suppressing."
    return mixture("tabular-graphs", _records(), weighted, seed, description=description)


def noisy(seed: int = 0) -> Task:
    """Unique, redundant and synergetic speech whose labels are wrong in a tenth of the examples."""
    parts = [
        (0.5, uniqueness("text")),
        (0.25, redundancy("text", "audio")),
        (0.25, synergy("image", "audio")),
    ]
    return mixture("noisy", _speech(), parts, seed, noise=0.1)
