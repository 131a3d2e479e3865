"""One modality of one example with its explanation: heat map, tokens, bars or a graph.

Warm units speak for the explained output, cool ones against it; the own set is outlined. ``scale``
is the largest score of the whole explanation, so a modality that matters little stays pale.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib.image
import networkx as nx
import numpy as np
from markupsafe import Markup

from mmx_jax.report.svg import number, tag

__all__ = ["describe", "graph_layout", "image_array", "picture", "unit_names"]

FAINT = 0.01
"""Scores below this share of the largest are too pale to be seen, so they are not outlined."""

MAX_DRAWN = 4096
"""Units drawn one by one in a heat map."""


def describe(modality: Any) -> dict[str, Any]:
    """What a page needs to know of a modality, as plain JSON values."""
    return {
        "kind": modality.kind,
        "units": modality.units,
        "layout": [list(x) if isinstance(x, tuple) else x for x in modality.layout],
        "labels": list(modality.labels),
        "reference": modality.reference_kind,
    }


def unit_names(spec: dict[str, Any], data: Any) -> list[str]:
    """What a sentence calls each unit: the word, the column, the place of a patch."""
    kind, labels, units = spec["kind"], spec["labels"], spec["units"]
    if kind == "token id":
        ids = np.asarray(data).reshape(-1).tolist()
        return [labels[i] if 0 <= i < len(labels) else f"id {i}" for i in ids]
    if len(labels) == units:
        return list(labels)
    if kind == "patch" and len(spec["layout"]) == 2:
        columns = spec["layout"][1]
        return [f"patch ({u // columns + 1}, {u % columns + 1})" for u in range(units)]
    if kind == "edge" and len(spec["layout"]) == units:
        return [f"edge {i + 1}-{j + 1}" for i, j in spec["layout"]]
    return [f"{kind} {u + 1}" for u in range(units)]


def picture(
    spec: dict[str, Any], data: Any, scores: Any, own: Sequence[int], scale: float
) -> Markup:
    """Draws the data of one modality under its scores.

    Args:
      spec: from :func:`describe`.
      data: nested lists or arrays of one example.
      scores: one per unit.
      own: the units of the explanation's own set; outlined where they can be seen.
      scale: the score that gets full colour.
    """
    scores = np.asarray(scores, dtype=float).tolist()
    levels = [s / scale if scale > 0 else 0.0 for s in scores]
    chosen, kind, layout = {u for u in own if abs(levels[u]) > FAINT}, spec["kind"], spec["layout"]
    if kind == "patch" and len(layout) == 2:
        return _heat_map(data, layout, levels, chosen)
    if kind in ("token", "token id"):
        return _tokens(unit_names(spec, data), scores, levels, chosen)
    if kind == "node" and isinstance(data, dict) and "adjacency" in data:
        return _graph(data["adjacency"], levels, chosen, None)
    if kind == "edge" and isinstance(data, dict) and len(layout) == spec["units"]:
        return _graph(data["adjacency"], levels, chosen, [tuple(e) for e in layout])
    return _unit_bars(unit_names(spec, data), levels, scores, chosen)


def image_array(data: Any) -> np.ndarray:
    """An image ``[H, W]`` or ``[H, W, 3]`` for display in [0, 1]; dark where values are high."""
    image = np.asarray(data, dtype=float)
    if image.ndim == 3 and image.shape[2] not in (3, 4):
        image = image.mean(axis=2)
    low, high = float(image.min()), float(image.max())
    image = (image - low) / (high - low) if high > low else np.zeros_like(image)
    return 1 - 0.75 * image if image.ndim == 2 else image


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, image, cmap="gray", vmin=0, vmax=1, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _side(level: float) -> str:
    return "for" if level >= 0 else "against"


def _heat_map(data: Any, layout: Sequence[int], levels: list[float], chosen: set[int]) -> Markup:
    image = image_array(data)
    height, width = image.shape[:2]
    rows, columns = layout
    parts: list[Markup] = [
        tag("image", href=_data_uri(image), x=0, y=0, width=width, height=height,
            style="image-rendering:pixelated")
    ]  # fmt: skip
    high, wide = height / rows, width / columns
    for u, level in enumerate(levels[:MAX_DRAWN]):
        box = {"x": u % columns * wide, "y": u // columns * high, "width": wide, "height": high}
        alpha = 0.78 * min(1.0, abs(level))
        if alpha > 0.01:
            parts.append(tag("rect", **box, class_=_side(level), fill_opacity=alpha))
    stroke = 0.009 * max(height, width)
    for u in sorted(chosen):
        x, y = u % columns * wide + stroke, u // columns * high + stroke
        parts.append(
            tag("rect", x=x, y=y, width=wide - 2 * stroke, height=high - 2 * stroke,
                class_="outline", stroke_width=stroke)
        )  # fmt: skip
    return tag(
        "svg", *parts, viewBox=f"0 0 {width} {height}", class_="heat", role="img",
        aria_label="image with heat map",
    )  # fmt: skip


def _tokens(
    names: Sequence[str], scores: Sequence[float], levels: list[float], chosen: set[int]
) -> Markup:
    words = [
        tag(
            "span",
            tag("span", class_=f"wash {_side(level)}", style=f"opacity:{min(1, abs(level)):.2f}"),
            tag("span", name, class_="word"),
            class_="token own" if u in chosen else "token",
            title=number(float(score), 3),
        )
        for u, (name, score, level) in enumerate(zip(names, scores, levels, strict=True))
    ]
    return tag("div", *words, class_="tokens")


def _unit_bars(
    names: Sequence[str], levels: list[float], scores: Sequence[float], chosen: set[int]
) -> Markup:
    """Signed bars around a middle line: columns of a table, frames, anything else."""
    order = range(len(names)) if len(names) <= 24 else _largest(levels, 24)
    parts: list[Markup] = []
    for row, u in enumerate(order):
        y, long = 4 + 17 * row, 70 * min(1.0, abs(levels[u]))
        x = 190 if levels[u] >= 0 else 190 - long
        bold = "tick end strong" if u in chosen else "tick end"
        parts += [
            tag("text", names[u][:18], x=104, y=y + 10, class_=bold),
            tag("rect", x=x, y=y, width=max(long, 0.6), height=12, rx=2, class_=_side(levels[u])),
            tag("title", f"{names[u]}: {number(float(scores[u]), 3)}"),
        ]
    height = 8 + 17 * len(order)
    parts.append(tag("path", d=f"M190 2V{height - 2}", class_="axis"))
    return tag("svg", *parts, viewBox=f"0 0 270 {height}", class_="units", role="img")


def _largest(levels: list[float], count: int) -> list[int]:
    return sorted(np.argsort([-abs(v) for v in levels], kind="stable")[:count].tolist())


def graph_layout(adjacency: np.ndarray) -> dict[int, tuple[float, float]]:
    """Positions in [0, 1] x [0, 1] of the nodes of a graph; the same graph gives the same ones."""
    graph = nx.from_numpy_array((np.abs(adjacency) > 0).astype(int))
    raw = nx.spring_layout(graph, seed=0, iterations=80)
    points = np.array([raw[i] for i in range(len(adjacency))], dtype=float).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    points = (points - low) / np.where(high > low, high - low, 1.0)
    return {i: (float(x), float(y)) for i, (x, y) in enumerate(points)}


def _graph(
    adjacency: Any,
    levels: list[float],
    chosen: set[int],
    edges: list[tuple[int, int]] | None,
) -> Markup:
    """A graph with coloured nodes, or with coloured edges where ``edges`` gives their ends."""
    table = np.asarray(adjacency, dtype=float)
    at = {i: (18 + 184 * x, 18 + 144 * y) for i, (x, y) in graph_layout(table).items()}
    parts: list[Markup] = []

    def path(i: int, j: int) -> str:
        return "M{:.1f} {:.1f}L{:.1f} {:.1f}".format(*at[i], *at[j])

    for i, j in zip(*np.nonzero(np.triu(np.abs(table) + np.abs(table.T), 1)), strict=True):
        parts.append(tag("path", d=path(int(i), int(j)), class_="edge"))
    for u, (i, j) in enumerate(edges or []):
        if abs(levels[u]) > 0.01:
            width = 2.0 + 3.0 * (u in chosen)
            parts.append(
                tag("path", d=path(i, j), class_=f"edge {_side(levels[u])}", stroke_width=width,
                    stroke_opacity=min(1.0, abs(levels[u])))
            )  # fmt: skip
    for i, (x, y) in at.items():
        parts.append(tag("circle", cx=x, cy=y, r=9, class_="node"))
        if edges is None and i < len(levels):
            parts.append(
                tag("circle", cx=x, cy=y, r=9, class_=_side(levels[i]),
                    fill_opacity=min(1.0, abs(levels[i])))
            )  # fmt: skip
            if i in chosen:
                parts.append(tag("circle", cx=x, cy=y, r=11, class_="outline", stroke_width=1.6))
        parts.append(tag("text", str(i + 1), x=x, y=y + 3.2, class_="tick"))
    return tag("svg", *parts, viewBox="0 0 220 180", class_="graph", role="img",
               aria_label="graph")  # fmt: skip
