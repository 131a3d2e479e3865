"""Renders the page of an audit: one HTML file that needs nothing else, not even a network.

It is a pure function of ``results.json`` and ``panels.json``. The template escapes every string.
"""

import json
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from mmx_jax.desiderata.constants import meanings
from mmx_jax.report import svg
from mmx_jax.report.findings import findings, order
from mmx_jax.report.pairs import pair_cards, pair_rows
from mmx_jax.report.pictures import picture
from mmx_jax.report.sentences import agreement, sentence
from mmx_jax.report.table import COLUMNS, VERDICTS, rows

__all__ = ["render", "schema"]

BROKEN = "The scores of this explanation are not finite here."

_NAMES = {"granger": "Granger", "faithfulness": "Faithful", "stability": "Stable"}

_GLOSSARY = (
    ("Granger", "dE_nm is the distance (L1, times the calibration) between the explanation of n "
     "before and after m is removed. Diagonal pairs are held against df_m = |v(x) - v(x without "
     "m)|, cross pairs against the interaction I_nm; intervals are Clopper-Pearson, 95 %."),
    ("over-claim", "Mean dE on inputs where no set of units of the modality matters, relative to "
     "the larger of the mean active df and I. In small: the change on single units that don't "
     "interact with the modality that went, where others of their modality do, relative to the "
     "same."),
    ("own set", "The smallest set of units that holds 90 % of the magnitude of the scores."),
    ("sufficiency", "|v(x) - v(only the own set kept)| / R."),
    ("necessity", "The largest effect of removing the own set or a part of it, relative to the "
     "largest effect of removing any set of at most that size."),
    ("stability", "Point: spectral norm of the Jacobian at x. Searched: the largest quotient found "
     "in a ball, a lower bound. Path: the largest along straight paths between inputs. Certified: "
     "a proven upper bound."),
    ("negative controls", "Explanations that are wrong by construction. A test that lets them pass "
     "would prove nothing."),
)  # fmt: skip


def _text(name: str) -> str:
    return resources.files("mmx_jax.report").joinpath(name).read_text(encoding="utf-8")


def schema() -> dict[str, Any]:
    """The JSON schema of ``results.json`` of an audit."""
    return json.loads(_text("audit.schema.json"))


def render(results: dict[str, Any], panels: dict[str, Any]) -> str:
    """The page as text.

    Args:
      results: what ``results.json`` holds.
      panels: what ``panels.json`` holds: curves, frontiers and the examples to be drawn.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    ranked = order(results, panels["controls"])
    modalities, about = sorted(panels["modalities"]), meanings()
    shown = ranked[0] if ranked else None
    pairs = [f"{n}<-{m}" for n in modalities for m in modalities]
    return environment.from_string(_text("page.html")).render(
        css=Markup(_text("page.css")),
        results=results,
        constants=results["constants"],
        facts=_facts(results),
        findings=findings(results, panels),
        columns=COLUMNS,
        parts=_parts(results, panels, ranked),
        modalities=modalities,
        mass=_mass(panels, ranked),
        shown=shown,
        shown_why="the explainer with the most passes, and the most faithful of those",
        examples=[_example(e, panels["modalities"], shown, ranked) for e in panels["examples"]]
        if shown
        else [],  # controls explain nothing
        pairs=[
            {
                "name": pair,
                "colour": modalities.index(pair.partition("<-")[0]) % 4,
                "diagonal": pair.partition("<-")[0] == pair.partition("<-")[2],
            }
            for pair in pairs
        ],
        pair_rows=pair_rows(results.get("pairs", {})),
        pair_cards=pair_cards(panels["pairs"], panels["examples"], results["range"])
        if "pairs" in panels
        else [],
        pair_budget=panels.get("pairs", {}).get("budget"),
        cards=[
            _card(name, results, panels, modalities)
            for name in [*ranked, *(n for n in results["explainers"] if n in panels["controls"])]
        ],
        constant_rows=[
            (k.replace("_", " "), f"{v:g}", about.get(k, ""))
            for k, v in sorted(results["constants"].items())
        ],
        glossary=_GLOSSARY,
        footer=panels["command"],
    )


def _facts(results: dict[str, Any]) -> list[tuple[str, str]]:
    count = results["examples"]
    reference = results["reference"]
    told = (
        ", ".join(f"{n}: {k}" for n, k in sorted(reference.items()))
        if isinstance(reference, dict)
        else str(reference)
    )
    return [
        ("model", results["model"]),
        ("link", results["link"]),
        ("reference", told),
        ("examples", f"{count['evaluation']} held out, {count['calibration']} for calibration"),
        ("R", svg.number(results["range"], 3)),
        ("seed", str(results["seed"])),
    ]


def _parts(
    results: dict[str, Any], panels: dict[str, Any], ranked: list[str]
) -> list[dict[str, Any]]:
    table = {row.name: row for row in rows(results)}
    controls = [n for n in table if n in panels["controls"]]
    parts = []
    for name, kind, members in (
        ("Explainers", "explainer", ranked),
        ("Negative controls: each should fail somewhere", "control", controls),
    ):
        shown = [
            {
                "name": table[n].name,
                "verdicts": _verdicts(table[n].verdicts),
                "cells": [
                    {"name": column.name, "text": text, "small": small}
                    for column, (text, small) in zip(COLUMNS, table[n].cells, strict=True)
                ],
            }
            for n in members
        ]
        if shown:
            parts.append({"name": name, "kind": kind, "rows": shown})
    return parts


def _why(entry: dict[str, Any]) -> list[str]:
    """The grounds of every verdict that is not a pass."""
    return [f"{_NAMES[v]}: {ground}" for v in VERDICTS for ground in entry["why"][v]]


def _verdicts(values: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"name": _NAMES[v], "value": x} for v, x in zip(VERDICTS, values, strict=True)]


def _mass(panels: dict[str, Any], ranked: list[str]) -> list[dict[str, Any]]:
    """Bars per modality: of the model, then of every explainer that is calibrated."""
    names, changes = sorted(panels["use"]), panels["changes"]
    lines = {"the model (df)": {n: panels["use"][n]["effect"] for n in names}}
    lines |= {e: changes[e] for e in ranked if e in changes}
    own = max(1e-9, *lines["the model (df)"].values())
    top = min(max(v for line in lines.values() for v in line.values()), 2 * own)
    return [
        {
            "name": label,
            "bars": [
                {
                    "text": svg.number(line[n]),
                    "width": round(min(88 * line[n] / max(top, 1e-9), 88), 1),
                    "cut": line[n] > top,
                }
                for n in names
            ],
        }
        for label, line in lines.items()
    ]


def _example(
    example: dict[str, Any], specs: dict[str, Any], shown: str, ranked: list[str]
) -> dict[str, Any]:
    explained = example["explanations"]
    main = explained[shown]
    views = [
        {
            "name": name,
            "note": f"df {svg.number(abs(example['effects'][name]))}, {example['state'][name]}",
            "picture": _picture(example, specs, main, name),
        }
        for name in sorted(specs)
    ]
    others = [
        {
            "name": f"{n} (not finite here)" if explained[n].get("broken") else n,
            "pictures": [_picture(example, specs, explained[n], m) for m in sorted(specs)],
        }
        for n in ranked
        if n != shown and n in explained
    ]
    return {
        "index": example["index"],
        "label": example.get("label", ""),
        "sentence": sentence(example, main, specs),
        "agreement": BROKEN if main.get("broken") else agreement(example, main),
        "views": views,
        "others": others,
    }


def _picture(
    example: dict[str, Any], specs: dict[str, Any], explanation: dict[str, Any], name: str
) -> Markup:
    scale = max((abs(s) for scores in explanation["scores"].values() for s in scores), default=0.0)
    return picture(
        specs[name],
        example["inputs"][name],
        explanation["scores"][name],
        explanation["own"][name],
        scale,
    )


def _card(
    name: str, results: dict[str, Any], panels: dict[str, Any], modalities: list[str]
) -> dict[str, Any]:
    entry, constants = results["explainers"][name], results["constants"]
    colours = {f"{n}<-{m}": modalities.index(n) % 4 for n in modalities for m in modalities}
    charts = []
    lines = {
        pair: tuple(zip(*values["frontier"], strict=True))
        for pair, values in entry["granger"].items()
        if values.get("frontier")
    }
    if lines:
        point = (constants["alpha"], constants["beta"])
        drawn = svg.frontier(lines, point, colours)  # pyright: ignore[reportArgumentType]
        charts.append({"name": "Granger frontier", "drawn": drawn})
    if curve := panels["curves"].get(name):
        drawn = svg.curves(curve["share"], curve["keep"], curve["remove"],
                           entry["own_set"].get("joint"))  # fmt: skip
        charts.append({"name": "Keep and remove, all modalities", "drawn": drawn})
    kinds = ("point", "searched", "path", "certified")
    cells = {
        pair: {kind: values.get(kind) for kind in kinds if values.get(kind) is not None}
        for pair, values in (entry["stability"] or {}).items()
    }
    if any(cells.values()):
        charts.append({"name": "Stability", "drawn": svg.matrix(modalities, cells)})
    calls = entry["evaluations"]
    return {
        "name": name,
        "calls": f"{calls} model call{'s' * (calls != 1)}",
        "verdicts": _verdicts(tuple(entry["verdict"][v] for v in VERDICTS)),
        "charts": charts,
        "why": _why(entry),
    }
