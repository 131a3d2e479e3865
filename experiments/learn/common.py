"""What the experiments on learned explainers share."""

import dataclasses
import platform
import shlex
from importlib.metadata import version
from typing import Any

from experiments.common import Run

__all__ = ["POOL", "made_with"]

POOL = 8192
"""Training examples that are put to a transformer."""


def made_with(name: str, run: Run) -> dict[str, Any]:
    """The command that repeats a run, and the versions it was made with."""
    said = []
    for field in dataclasses.fields(run):
        value = getattr(run, field.name)
        if value == field.default or field.name in ("out", "rows"):
            continue
        option = field.name.replace("_", "-")
        if isinstance(value, bool):
            said.append(f"--{option}" if value else f"--no-{option}")
        else:
            said.append(f"--{option} {shlex.quote(str(value))}")
    made: dict[str, Any] = {"command": " ".join([f"python -m experiments.learn.{name}", *said])}
    packages = ("mmx_jax", "jax", "flax", "optax", "numpy", "scikit-learn")
    return made | {"python": platform.python_version()} | {p: version(p) for p in packages}
