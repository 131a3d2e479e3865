"""A picture of a training run: its losses, and what was measured on held-out data."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["training_figure"]


def training_figure(rows: list[dict[str, Any]]) -> Figure:
    """Losses on a logarithmic scale beside the held-out figures, over steps.

    Args:
      rows: of ``metrics.jsonl``: ``step``, ``losses`` and ``measured``.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _lines(left, rows, "losses", "losses, mean of each block")
    left.set_yscale("log")
    _lines(right, rows, "measured", "held-out data, averaged weights")
    right.set_ylim(0, 1.3)
    return figure


def _lines(axes: Axes, rows: list[dict[str, Any]], kind: str, title: str) -> None:
    steps = [row["step"] for row in rows]
    for name in rows[0][kind] if rows else ():
        if name == "scale":
            continue
        # a loss that is met is zero, which has no logarithm
        values = [max(row[kind][name], 1e-7) for row in rows]
        axes.plot(steps, values, label=name, linewidth=1, marker=".", markersize=3)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
