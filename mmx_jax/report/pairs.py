"""Pairs of units across modalities: a matrix per two modalities, and the strongest in words."""

from typing import Any

import numpy as np
from markupsafe import Markup

from mmx_jax.report.svg import number, tag

__all__ = ["pair_cards", "pair_matrix", "pair_rows"]

SHOWN = 5
"""Pairs named beside a matrix."""

QUIET = 0.01
"""Scores below this share of R are rounding and are not drawn."""

SIDE = 64
"""Units of a modality that a matrix draws, the ones of largest score."""


def pair_rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of texts per explainer of pairs."""
    return [
        {
            "name": name,
            "cells": [
                number(row["auc"]),
                number(row["precision"]),
                number(row["sufficiency_error"]),
                number(row["necessity"]),
                number(row["kept"]),
                str(row["evaluations"]),
            ],
            "reason": row["reason"],
        }
        for name, row in measured.items()
    ]


def pair_cards(
    drawn: dict[str, Any], examples: list[dict[str, Any]], spread: float
) -> list[dict[str, Any]]:
    """Per example the matrices of every explainer and its strongest pairs.

    Args:
      drawn: the pairs of ``panels.json``.
      examples: the examples drawn, with their labels.
      spread: the range R; scores below .01 R are those of no pair.
    """
    labels = {str(e["index"]): e.get("label", "") for e in examples}
    return [
        {
            "index": int(index),
            "label": labels.get(index, ""),
            "views": [
                _view(name, scores, drawn["true"][index], drawn["units"][index], QUIET * spread)
                for name, scores in explained.items()
            ],
        }
        for index, explained in drawn["examples"].items()
    ]


def _view(
    name: str,
    scores: dict[str, Any],
    true: dict[str, Any],
    units: dict[str, list[str]],
    quiet: float,
) -> dict[str, Any]:
    tables = {pair: np.asarray(s, float) for pair, s in scores.items()}
    scale = max((float(np.abs(t).max(initial=0.0)) for t in tables.values()), default=0.0)
    matrices = []
    for pair, table in tables.items():
        sides, marked = pair.split("*"), np.asarray(true[pair], bool)
        loud = np.where(np.abs(table) < quiet, 0.0, table)
        if len(loud) > loud.shape[1]:  # wide ones take less of the page
            sides, loud, marked = sides[::-1], loud.T, marked.T
        drawn = pair_matrix(units[sides[0]], units[sides[1]], loud, marked, scale)
        matrices.append({"name": f"{sides[0]} (rows) with {sides[1]}", "drawn": drawn})
    strongest = _strongest(tables, units, max(scale / 20, quiet))
    return {"name": name, "matrices": matrices, "strongest": strongest}


def _strongest(
    tables: dict[str, np.ndarray], units: dict[str, list[str]], least: float
) -> list[dict[str, str]]:
    """The pairs of largest magnitude, those below ``least`` left out."""
    found = [
        (float(t[u, w]), f"{n} {units[n][u]}", f"{m} {units[m][w]}")
        for pair, t in tables.items()
        for n, m in [pair.split("*")]
        for u, w in np.ndindex(*t.shape)
        if abs(t[u, w]) > least
    ]
    found.sort(key=lambda item: -abs(item[0]))
    return [{"score": number(s), "first": a, "second": b} for s, a, b in found[:SHOWN]]


def pair_matrix(
    rows: list[str], columns: list[str], scores: np.ndarray, true: np.ndarray, scale: float
) -> Markup:
    """A cell per pair: warm where the two together speak for the output, cool against it.

    Pairs that are known to interact are outlined; every cell says its units and score.

    Args:
      rows, columns: names of the units of the first and the second modality.
      scores: ``[rows, columns]``.
      true: which pairs interact, of the same shape.
      scale: the score that gets full colour.
    """
    chosen = [_loudest(scores, axis) for axis in (0, 1)]
    size = max(5.0, min(16.0, 200.0 / max(1, len(chosen[1]))))
    parts = []
    for y, u in enumerate(chosen[0]):
        for x, w in enumerate(chosen[1]):
            level = scores[u, w] / scale if scale > 0 else 0.0
            box = {"x": x * size, "y": y * size, "width": size - 1, "height": size - 1}
            label = tag("title", f"{rows[u]} and {columns[w]}: {number(float(scores[u, w]), 3)}")
            parts.append(tag("rect", label, **box, class_="blank"))
            if abs(level) > 0.01:
                side = "for" if level > 0 else "against"
                parts.append(
                    tag("rect", label, **box, class_=side, fill_opacity=float(min(1, abs(level))))
                )
            if true[u, w]:
                parts.append(tag("rect", **box, class_="outline", stroke_width=1.4))
    wide, high = len(chosen[1]) * size, len(chosen[0]) * size
    return tag(
        "svg", *parts, viewBox=f"-1 -1 {wide + 1:g} {high + 1:g}", class_="pairs", role="img",
        aria_label="matrix of pairs", style=f"max-width:{1.4 * wide:g}px",
    )  # fmt: skip


def _loudest(scores: np.ndarray, axis: int) -> list[int]:
    """The units of one side that are drawn, in their order."""
    size = np.abs(scores).max(1 - axis, initial=0.0)
    return sorted(np.argsort(-size, kind="stable")[:SIDE].tolist())
