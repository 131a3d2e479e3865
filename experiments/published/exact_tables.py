"""Numbers that are mathematics: partial information, EMAP, InterSHAP of bits, SHAPE of XOR.

    python -m experiments.published.exact_tables

Every claim holds to 1e-6, percentages to .01. Takes seconds on one core; ``--quick`` changes
nothing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.common import Outcome, Run, main
from experiments.published.common import near, with_versions
from mmx_jax import FeatureGates, Modality, as_model
from mmx_jax.interactions import (
    emap,
    intershap,
    macro_f1,
    performance_game,
    pid,
    shape,
    shapley_interactions,
)

EXACT, PERCENT = 1e-6, 0.01
BIT = (0, 1)
R_AND = 0.75 * float(np.log2(4 / 3))  # .3113

Row = tuple[str, str, float, float, float]
"""id, quantity, expected, ours, tolerance."""


def joint(rows: list[tuple[int, int, int]]) -> np.ndarray:
    """The distribution that puts equal mass on each row (x1, x2, y)."""
    p = np.zeros(np.max(rows, axis=0) + 1)
    for row in rows:
        p[row] += 1
    return p


def information() -> Iterator[Row]:
    """A1 to A4: BROJA in bits."""
    both = [(a, b) for a in BIT for b in BIT]
    gates = {
        "A1 AND": ([(a, b, a & b) for a, b in both], (R_AND, 0, 0, 0.5)),
        "A1 OR": ([(a, b, a | b) for a, b in both], (R_AND, 0, 0, 0.5)),
        "A2 XOR": ([(a, b, a ^ b) for a, b in both], (0, 0, 0, 1)),
        "A2 unique": ([(a, b, a) for a, b in both], (0, 1, 0, 0)),
        "A2 redundant copy": ([(a, a, a) for a in BIT], (1, 0, 0, 0)),
        "A3 redundant AND unique": ([(2 * a + b, a, a & b) for a, b in both], (R_AND, 0.5, 0, 0)),
        "A3 redundant OR unique": ([(2 * a + b, a, a | b) for a, b in both], (R_AND, 0.5, 0, 0)),
        "A4 redundant XOR unique": ([(2 * a + b, a, a ^ b) for a, b in both], (0, 1, 0, 0)),
    }
    for name, (rows, expected) in gates.items():
        found = pid(joint(rows))
        for part, want, got in zip(found._fields, expected, found, strict=True):
            yield name, part, want, got, EXACT


def projection() -> Iterator[Row]:
    """A5: EMAP of a 3 x 3 table."""
    table = np.array([[-1.3, 0.3, -0.2], [0.8, 3.0, 1.1], [1.1, -0.1, 0.7]])
    for i, (want, got) in enumerate(zip((-0.8, 2.1, 0.5), emap(table), strict=True)):
        yield "A5 EMAP", f"entry {i}", want, float(got), EXACT


def game_of_bits(label: Callable[[np.ndarray], Any], m: int, balanced: bool = False) -> np.ndarray:
    """The games of "is the label kept?" for m bits, absent bits redrawn together.

    Rows are bit patterns, repeated in proportion to their probability: uniform, or such that both
    labels are equally likely (what rejection does).
    """
    bits = (np.arange(1 << m)[:, None] >> np.arange(m)) & 1
    y = np.array([bool(label(b)) for b in bits])
    weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum()) if balanced else np.full(1 << m, 0.5**m)
    # absent[i, c, z]: the label of pattern i with the bits outside coalition c taken from z
    kept = np.stack([[[label(np.where(c, x, z)) for z in bits] for c in bits] for x in bits])
    table = (kept.astype(bool) == y[:, None, None]) @ weight
    copies = weight * (1 << m) * np.lcm(int(y.sum()), int((~y).sum()))
    return np.repeat(table, np.rint(copies).astype(int), axis=0)


def bits() -> Iterator[Row]:
    """A6 to A9: InterSHAP and the calibrated share."""

    def parity(b: np.ndarray) -> Any:
        return b.sum() % 2

    def one(b: np.ndarray) -> Any:
        return b.sum() == 1

    for m in (2, 3, 4, 5):
        found = intershap(game_of_bits(parity, m))
        yield f"A6 parity of {m}", "InterSHAP", 50 * m / (m - 1), float(found.total), PERCENT
        yield f"A6 parity of {m}", "calibrated share", 100, float(found.moebius), PERCENT
    for m, total, local, share in ((2, 100, 100, 100), (3, 91.67, 58.59, 80)):
        found = intershap(game_of_bits(one, m))
        yield f"A7 one of {m}", "InterSHAP", total, float(found.total), PERCENT
        yield f"A7 one of {m}", "local", local, float(found.local), PERCENT
        yield f"A7 one of {m}", "calibrated share", share, float(found.moebius), PERCENT
    for m, total, local in ((2, 100, 100), (3, 92.61, 59.40)):
        found = intershap(game_of_bits(one, m, balanced=True))
        yield f"A8 one of {m}, balanced", "InterSHAP", total, float(found.total), PERCENT
        yield f"A8 one of {m}, balanced", "local", local, float(found.local), PERCENT
    for m, total in ((2, 33.33), (3, 64.29)):
        yield (
            f"A9 AND of {m}",
            "InterSHAP",
            total,
            float(intershap(game_of_bits(np.all, m)).total),
            PERCENT,
        )


def cooperation() -> Iterator[Row]:
    """A10: SHAPE of XOR, macro F1, zero mask, base the majority vote."""

    def xor(x: dict[str, Any]) -> Any:
        odd = jnp.abs(x["a"][0] - x["b"][0])
        return jnp.stack([1 - odd, odd])

    table = np.array([[a, b] for a in BIT for b in BIT], np.float32)
    units = FeatureGates({"a": Modality.columns(1), "b": Modality.columns(1)})
    batch = {"a": table[:, :1], "b": table[:, 1:]}
    labels = (table.sum(1) == 1).astype(int)
    game = performance_game(units, as_model(xor), batch, labels, macro_f1)
    yield "A10 XOR", "SHAPE, %", 100 / 3, 100 * float(shape(game).cooperation), PERCENT


def additive(seed: int) -> Iterator[Row]:
    """A11: an additive function on its own scale."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, 40))
    table = first[:, None] + second[None, :]
    gap = np.max(np.abs(emap(table) - np.diagonal(table)))
    mean = table.mean()
    games = np.stack([np.full(40, mean), table.mean(1), table.mean(0), np.diagonal(table)], axis=-1)
    index = np.max(np.abs(shapley_interactions(games)[0, 1]))
    yield "A11 additive", "EMAP gap", 0, float(gap), EXACT
    yield "A11 additive", "interaction index", 0, float(index), EXACT
    yield "A11 additive", "InterSHAP", 0, float(np.max(intershap(games).examples)), PERCENT


def experiment(run: Run) -> Outcome:
    """Compares every number of the table."""
    rows = [*information(), *projection(), *bits(), *cooperation(), *additive(run.seed)]
    claims = [
        near(f"{name}, {quantity}", {run.seed: got}, want, tolerance)
        for name, quantity, want, got, tolerance in rows
    ]
    table = [
        {"id": name, "quantity": quantity, "exact": want, "ours": got, "pass": claim["passed"]}
        for (name, quantity, want, got, _), claim in zip(rows, claims, strict=True)
    ]
    return with_versions(Outcome(claims, {"exact numbers": table}), "exact_tables", run)


if __name__ == "__main__":
    main("published.exact_tables", __doc__, experiment)
