"""What the reproductions share: claims of closeness, and what a committed result was made with."""

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from experiments.common import Outcome, Run

__all__ = ["in_order", "near", "with_versions"]


def near(
    text: str, values: Mapping[int, float], expected: float, tolerance: float
) -> dict[str, Any]:
    """A claim that the mean over seeds is within ``tolerance`` of an expected number.

    ``value`` is the distance, ``seeds`` the measured numbers.
    """
    mean = float(np.mean(list(values.values())))
    distance = abs(mean - expected)
    return {
        "claim": f"{text}: {mean:.4g} for {expected:.4g}, distance at most",
        "value": distance,
        "threshold": tolerance,
        "passed": bool(distance <= tolerance),
        "seeds": {str(seed): value for seed, value in values.items()},
    }


def in_order(text: str, values: Mapping[str, float]) -> dict[str, Any]:
    """A claim that means fall strictly in the order given; ``value`` is the smallest step down."""
    steps = -np.diff(list(values.values()))
    return {
        "claim": f"{text} fall in the order {', '.join(values)}, smallest step at least",
        "value": float(steps.min()),
        "threshold": 0.0,
        "passed": bool(steps.min() > 0),
        "seeds": dict(values),
    }


def with_versions(outcome: Outcome, name: str, run: Run) -> Outcome:
    """The outcome with a table that says how it was made."""
    command = f"python -m experiments.published.{name}" + " --quick" * run.quick
    made = {"command": command + f" --seed {run.seed}", "python": platform.python_version()}
    made |= {p: version(p) for p in ("mmx_jax", "jax", "numpy", "scipy", "scikit-learn")}
    rows = [{"what": key, "value": value} for key, value in made.items()]
    return dataclasses.replace(outcome, tables=outcome.tables | {"made with": rows})
