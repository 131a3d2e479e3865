"""The page of ``mmx certify``: one HTML file that needs nothing else."""

from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from mmx_jax.report import svg

__all__ = ["cell_text", "render_certificates"]


def _text(name: str) -> str:
    return resources.files("mmx_jax.report").joinpath(name).read_text(encoding="utf-8")


def cell_text(cell: dict[str, Any]) -> tuple[str, str, str, str]:
    """Point, searched, certified and ratio of a pair as they are printed."""
    if cell["reason"]:
        ratio = "unbounded"
    elif cell["vacuous"]:
        ratio = "vacuous"
    else:
        ratio = svg.number(cell["ratio"], 3)
    point, searched, certified = (
        svg.number(cell[kind], 3) for kind in ("point", "searched", "certified")
    )
    return point, searched, certified, ratio


def render_certificates(results: dict[str, Any], command: str) -> str:
    """The page as text.

    Args:
      results: what ``results.json`` holds.
      command: that repeats it.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = sorted(results["radius"])
    return environment.from_string(_text("certificate.html")).render(
        css=Markup(_text("page.css")),
        results=results,
        facts=_facts(results),
        cards=[_card(name, entry, names) for name, entry in results["explainers"].items()],
        footer=command,
    )


def _facts(results: dict[str, Any]) -> list[tuple[str, str]]:
    radius = ", ".join(f"{n} {svg.number(r, 4)}" for n, r in sorted(results["radius"].items()))
    ball = "l2 balls, 2 to 2 norms" if results["norm"] == "2" else "boxes, inf to inf norms"
    return [
        ("model", results["model"]),
        ("link", results["link"]),
        ("radius", radius),
        ("norm", ball),
        ("examples", str(results["examples"])),
        ("seed", str(results["seed"])),
    ]


def _card(name: str, entry: dict[str, Any], names: list[str]) -> dict[str, Any]:
    rows = [
        {"name": pair, "cells": cell_text(cell), "reason": cell["reason"]}
        for pair, cell in entry["pairs"].items()
    ]
    kinds = ("point", "searched", "certified")
    cells = {p: {k: c[k] for k in kinds} for p, c in entry["pairs"].items()}
    moving = {pair.partition("<-")[2] for pair in cells}
    charts = [
        {"name": pair, "drawn": svg.bounds(cell["curve"], cell["point"])}
        for pair, cell in entry["pairs"].items()
        if cell["curve"]["factor"]
    ]
    return {
        "name": name,
        "about": _about(entry),
        "reason": entry["reason"],
        "rows": rows,
        "matrix": svg.matrix([n for n in names if n in moving], cells) if cells else None,
        "charts": charts,
    }


def _about(entry: dict[str, Any]) -> str:
    bound = (entry.get("everywhere") or {}).get("all")
    everywhere = "" if bound is None else f"; by construction at most {svg.number(bound, 4)} in l2"
    if entry["method"] is None:
        return f"not certified{everywhere}"
    lifted = "" if entry["lifted"] else "; not lifted in full, so looser than it need be"
    return f"domain: {entry['method']}{lifted}{everywhere}"
