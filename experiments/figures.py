"""The picture that the experiments share: dots per task and explainer, one for every seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

__all__ = ["dots"]

COLOURS = ("#1f6f8b", "#c8553d", "#6b8f3a")


def dots(
    path: Path,
    rows: list[dict[str, Any]],
    kinds: Sequence[str],
    label: str,
    *,
    line: str | None = None,
    symlog: bool = False,
) -> None:
    """Draws a panel per task; in it a line per explainer with a dot per seed and kind.

    Args:
      path: of the picture.
      rows: with ``task``, ``explainer`` and the columns that are drawn; None is left out.
      kinds: the columns, each in a colour.
      label: of the horizontal axis.
      line: a column whose mean over the rows of a task is drawn as a vertical line.
      symlog: a logarithmic axis that holds zero.
    """
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    explainers = list(dict.fromkeys(r["explainer"] for r in rows))
    across = min(3, len(tasks))
    down = -(-len(tasks) // across)
    size = (2 + 3 * across, 0.6 + down * (0.9 + 0.36 * len(explainers)))
    figure, axes = plt.subplots(
        down, across, figsize=size, sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(tasks) :]:
        axis.set_visible(False)
    for axis, task in zip(axes.flat, tasks, strict=False):
        mine = [r for r in rows if r["task"] == task]
        for j, kind in enumerate(kinds):
            shift = 0.16 * (j - (len(kinds) - 1) / 2)
            points = [
                (r[kind], explainers.index(r["explainer"]) + shift)
                for r in mine
                if r.get(kind) is not None
            ]
            axis.plot(*np.array(points).reshape(-1, 2).T, "o", ms=5, alpha=0.7, color=COLOURS[j])
        if line is not None:
            axis.axvline(np.mean([r[line] for r in mine]), color="0.6", lw=1)
        axis.set(title=task, yticks=range(len(explainers)), yticklabels=explainers)
        axis.grid(axis="y", color="0.92")
        if symlog:
            axis.set_xscale("symlog", linthresh=0.01)
    axes[0, 0].invert_yaxis()
    figure.supxlabel(label, fontsize="medium")
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=COLOURS[j], label=kind)
        for j, kind in enumerate(kinds)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(kinds), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
