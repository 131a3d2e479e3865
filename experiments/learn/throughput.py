"""How fast an explainer trains on the devices at hand, in float32 or bfloat16, and what it holds.

On the exact model of the mixed world; what was learned is measured on held-out data as in training.
One process for one setting, so that the peak of memory is its own.

Run:      python -m experiments.learn.throughput
          python -m experiments.learn.throughput --compute bfloat16
          python -m experiments.learn.throughput --batch 2048
Expected: experiments/learn/README.md. So few steps don't reach alpha* .85, which is asked of whole
          trainings; faithfulness they do reach. 2 minutes on one core.
"""

import dataclasses
import itertools
import sys
import time
from typing import Any, Literal

import jax
import numpy as np

from experiments.common import Outcome, Run, at_least, main
from experiments.learn.common import made_with
from experiments.learn.judge import learn
from mmx_jax.learn import Recipe, Settings
from mmx_jax.tasks import mixed as world


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """What is trained, how."""

    compute: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in."""
    batch: int = 128
    """Examples a step."""
    steps: int = 1000
    """Of training."""


def experiment(options: Options) -> Outcome:
    """Trains once and times every block of steps with its evaluation."""
    (seed,) = options.seeds(1)
    task = world(seed)
    assert task.model is not None
    settings = Settings(
        steps=200 if options.quick else options.steps,
        block=20,
        batch=options.batch,
        compute=options.compute,
        target="fixed",
        seed=seed,
    )
    ends = [time.monotonic()]

    def ended(step: int, *_: Any) -> None:
        ends.append(time.monotonic())
        print(f"step {step}: {ends[-1] - ends[0]:.1f} s", file=sys.stderr)

    fitted = learn(task, task.model, seed, Recipe(settings=settings), progress=ended)
    took = [after - before for before, after in itertools.pairwise(ends)]
    # the first block compiles
    step = float(np.median(took[1:] or took)) / settings.block
    memory = jax.devices()[0].memory_stats() or {}
    measured = fitted.history[-1]["measured"]
    table = {
        "device": jax.devices()[0].device_kind,
        "compute": options.compute,
        "batch": options.batch,
        "ms per step": 1e3 * step,
        "examples per second": options.batch / step,
        "first block, s": took[0],
        "all steps, s": ends[-1] - ends[0],
        "peak memory, MB": memory["peak_bytes_in_use"] / 2**20 if memory else None,
        "steps": settings.total,
        "alpha*": measured["alpha"],
        "over": measured["over"],
        "faithful": measured["faithful"],
    }
    claims = [at_least("faithful share", {seed: measured["faithful"]}, 0.95)]
    details = [{"seed": seed} | measured, made_with("throughput", options)]
    return Outcome(claims, {"training": [table]}, details=details)


if __name__ == "__main__":
    main("learn.throughput", __doc__, experiment, Options, quickly=False)
