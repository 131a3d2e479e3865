"""A picture of one example under one or several explainers, drawn with matplotlib."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmx_jax.report.pictures import graph_layout, image_array, unit_names
from mmx_jax.report.svg import number

__all__ = ["explanation_figure"]

WARM_AND_COOL = LinearSegmentedColormap.from_list("mmx", ["#35699f", "#fbfaf6", "#c4522f"])
"""Cool where a unit speaks against the output, warm where it speaks for it."""


def explanation_figure(
    title: str,
    specs: dict[str, dict[str, Any]],
    inputs: dict[str, Any],
    explanations: dict[str, dict[str, Any]],
) -> Figure:
    """A row per explainer and a column per modality; each row has its own colour scale.

    Args:
      title: over the picture.
      specs: the modalities, from :func:`~mmx_jax.report.pictures.describe`.
      inputs: of the example.
      explanations: scores by explainer and modality.
    """
    names = sorted(specs)
    figure = Figure(figsize=(3.6 * len(names), 0.7 + 3.1 * len(explanations)), layout="constrained")
    figure.suptitle(title, fontsize=12, parse_math=False)
    grid = figure.subplots(len(explanations), len(names), squeeze=False)
    for axes, (explainer, scores) in zip(grid, explanations.items(), strict=True):
        scale = max((abs(float(s)) for n in names for s in scores[n]), default=0.0)
        for ax, name in zip(axes, names, strict=True):
            levels = [float(s) / scale if scale > 0 else 0.0 for s in scores[name]]
            _draw(ax, specs[name], inputs[name], levels)
            ax.set_title(f"{explainer}: {name}", fontsize=9, wrap=True, parse_math=False)
        axes[-1].annotate(
            f"warm: for (without sign: how much), cool: against; full colour: {number(scale, 3)}",
            (1, -0.02),
            xycoords="axes fraction", ha="right", va="top", fontsize=7, color="0.4",
        )  # fmt: skip
    return figure


def _draw(ax: Axes, spec: dict[str, Any], data: Any, levels: list[float]) -> None:
    kind, layout = spec["kind"], spec["layout"]
    if kind == "patch" and len(layout) == 2:
        _heat_map(ax, data, layout, levels)
    elif kind in ("token", "token id"):
        _tokens(ax, unit_names(spec, data), levels)
    elif kind == "node" and isinstance(data, dict) and "adjacency" in data:
        _graph(ax, data["adjacency"], levels)
    else:
        _bars(ax, unit_names(spec, data), levels)


def _colour(level: float) -> tuple[float, float, float, float]:
    return WARM_AND_COOL(0.5 + 0.5 * max(-1.0, min(1.0, level)))


def _heat_map(ax: Axes, data: Any, layout: Sequence[int], levels: list[float]) -> None:
    image = image_array(data)
    height, width = image.shape[:2]
    ax.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    rows, columns = layout
    for u, level in enumerate(levels):
        corner = (u % columns * width / columns, u // columns * height / rows)
        alpha = 0.75 * min(1.0, abs(level))
        ax.add_patch(
            Rectangle(corner, width / columns, height / rows, color=_colour(np.sign(level)),
                      alpha=alpha, linewidth=0)
        )  # fmt: skip
    ax.set_axis_off()


def _tokens(ax: Axes, names: Sequence[str], levels: list[float]) -> None:
    """One word below the other, on a ground of its colour."""
    ax.set_xlim(0, 1)
    ax.set_ylim(len(names), 0)
    for row, (name, level) in enumerate(zip(names, levels, strict=True)):
        ax.add_patch(Rectangle((0.05, row + 0.08), 0.9, 0.84, color=_colour(level), linewidth=0))
        text = name if len(name) <= 24 else name[:23] + "…"
        ax.text(0.5, row + 0.52, text, ha="center", va="center", fontsize=9, parse_math=False)
    ax.set_axis_off()


def _bars(ax: Axes, names: Sequence[str], levels: list[float]) -> None:
    place = np.arange(len(names))
    ax.barh(place, levels, color=[_colour(float(np.sign(v))) for v in levels])
    ax.set_yticks(place, [n[:20] for n in names], fontsize=7, parse_math=False)
    ax.invert_yaxis()
    ax.set_xlim(-1.05, 1.05)
    ax.axvline(0, color="0.7", linewidth=0.8)
    ax.set_xticks([])
    for side in ("top", "right", "bottom", "left"):
        ax.spines[side].set_visible(False)


def _graph(ax: Axes, adjacency: Any, levels: list[float]) -> None:
    table = np.asarray(adjacency, dtype=float)
    at = graph_layout(table)
    for i, j in zip(*np.nonzero(np.triu(np.abs(table) + np.abs(table.T), 1)), strict=True):
        ax.plot(*zip(at[int(i)], at[int(j)], strict=True), color="0.75", linewidth=1, zorder=1)
    points = np.array([at[i] for i in range(len(table))])
    ax.scatter(*points.T, s=220, c=[_colour(v) for v in levels], edgecolors="0.6", zorder=2)
    for i, (x, y) in at.items():
        ax.text(x, y, str(i + 1), ha="center", va="center", fontsize=8)
    ax.margins(0.15)
    ax.set_axis_off()
