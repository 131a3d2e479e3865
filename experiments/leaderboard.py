"""The page of the leaderboard: one HTML file with sortable tables and a picture of every world."""

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from experiments.ranking import METRICS
from mmx_jax.report.pictures import picture
from mmx_jax.report.svg import number

__all__ = ["render"]

LEADING = {
    "all three": "share of the cells in which all three verdicts are pass",
    "granger passes": "of the cells in which that verdict applies",
    "faithfulness passes": "of the cells in which that verdict applies",
    "stability passes": "of the cells in which that verdict applies",
}
TRAILING = {
    "own set": "share of the units that hold 90 % of its magnitude",
    "calls": "model calls of one explanation",
}
ABOUT = LEADING | {name: metric.about for name, metric in METRICS.items()} | TRAILING


def render(results: dict[str, Any], pictures: list[dict[str, Any]], command: str) -> str:
    """The page as text.

    Args:
      results: what ``results.json`` holds.
      pictures: per world an example with scores, as :func:`experiments.benchmark.drawn` makes them.
      command: that repeats the run.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    css = resources.files("mmx_jax.report").joinpath("page.css").read_text(encoding="utf-8")
    tables = results["tables"]
    rows = tables["leaderboard"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    boards = [_board(model, [r for r in rows if r["model"] == model]) for model in models]
    boards += [
        _agreement(model, tables[f"agreement of metrics, {model} models"]) for model in models
    ]
    cells = len(results["details"])
    worlds = len({r["world"] for r in results["details"]})
    seeds = len({r["seed"] for r in results["details"]})
    return environment.from_string(template).render(
        css=Markup(css),
        lead=f"{cells} cells: {worlds} worlds, {seeds} seeds, "
        f"{len({r['explainer'] for r in rows})} explainers and controls.",
        findings=_findings(results),
        boards=boards,
        blindness=tables["known blindness"],
        about=ABOUT,
        worlds=[_world(entry) for entry in pictures],
        command=command,
    )


def _findings(results: dict[str, Any]) -> list[dict[str, str]]:
    claims = results["claims"]
    if not claims:
        text = "Without the truth of exact models explainers are compared with each other only."
        return [{"kind": "", "text": text}]
    held = sum(c["passed"] for c in claims)
    out = [
        {
            "kind": "good" if held == len(claims) else "bad",
            "text": f"The reference explanation is not beaten in {held} of {len(claims)} pairs of "
            "world and metric that claims to measure it.",
        }
    ]
    lost = results["tables"]["where the truth is beaten"]
    for row in lost[:8]:
        text = f'On {row["world"]} the truth is beaten in "{row["metric"]}"'
        by = f", by {number(-row['lead'], 3)} at most, on {row['seeds']} of {row['of']} seeds: "
        out.append({"kind": "bad", "text": f"{text}{by}{row['reason']}."})
    if len(lost) > 8:
        out.append({"kind": "bad", "text": f"And {len(lost) - 8} more, in results.json."})
    return out


def _cell(value: Any, shade: str = "") -> dict[str, str]:
    if value is None:
        return {"value": "", "text": "—", "shade": ""}
    if isinstance(value, str):
        return {"value": value, "text": value, "shade": ""}
    shown = str(value) if isinstance(value, int) else number(value)
    return {"value": f"{value:.6g}", "text": shown, "shade": shade}


def _green(share: float) -> str:
    return f"44, 110, 73, {0.45 * min(max(share, 0.0), 1.0):.2f}"


def _board(model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = [*LEADING, *METRICS, *TRAILING]
    best: dict[str, tuple[float, float]] = {}
    for column in columns:
        known = [r[column] for r in rows if r.get(column) is not None]
        if known:
            best[column] = (min(known), max(known))

    def shade(column: str, value: float | None) -> str:
        if value is None or column in TRAILING or best[column][0] == best[column][1]:
            return ""
        share = (value - best[column][0]) / (best[column][1] - best[column][0])
        sign = METRICS[column].sign if column in METRICS else 1
        return _green(share if sign > 0 else 1 - share)

    return {
        "title": f"Explainers, {model} models",
        "hint": "Means over worlds and seeds; passes are shares of the cells in which a verdict "
        "applies. Controls are in italics. Green is better in its column.",
        "columns": ["explainer", *columns],
        "rows": [
            {
                "kind": "control" if row["control"] else "explainer",
                "cells": [
                    _cell(row["explainer"]),
                    *(_cell(row.get(c), shade(c, row.get(c))) for c in columns),
                ],
            }
            for row in rows
        ],
    }


def _agreement(model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = list(METRICS)

    def shade(value: float | None) -> str:
        if value is None:
            return ""
        return _green(value) if value > 0 else f"166, 58, 43, {-0.45 * value:.2f}"

    return {
        "title": f"Do metrics order explainers alike? {model} models",
        "hint": "Spearman's correlation over explainers, mean over worlds and seeds; every metric "
        "is turned so that high is good.",
        "columns": ["metric", *columns],
        "rows": [
            {
                "kind": "",
                "cells": [_cell(row["metric"]), *(_cell(row[c], shade(row[c])) for c in columns)],
            }
            for row in rows
        ],
    }


def _world(entry: dict[str, Any]) -> dict[str, Any]:
    rows = []
    # the reference explanation first, whatever the order in the file
    for name in sorted(entry["scores"], key=lambda name: name != "truth"):
        scores = entry["scores"][name]
        scale = max((abs(v) for values in scores.values() for v in values), default=0.0)
        views = [
            {
                "modality": m,
                "picture": picture(
                    entry["modalities"][m], entry["inputs"][m], scores[m], entry["relevant"][m],
                    scale,
                ),
            }
            for m in sorted(scores)
        ]  # fmt: skip
        rows.append({"name": name, "views": views})
    return {"name": entry["world"], "about": f"{entry['about']} ({entry['mode']})", "rows": rows}
