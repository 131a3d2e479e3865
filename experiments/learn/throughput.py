"""How fast an explainer trains on the devices at hand, in float32 or bfloat16, and what it holds.

On the exact model of the mixed world, and judged afterwards as every learned explainer is. One
process for one setting, so that the peak of memory is its own.

Run:      python -m experiments.learn.throughput
          python -m experiments.learn.throughput --compute bfloat16
          python -m experiments.learn.throughput --batch 2048
Expected: experiments/learn/README.md. Influence and recovery in bfloat16 as in float32. 4 minutes
          on one core.
"""

import dataclasses
import itertools
import time
from typing import Literal

import jax
import numpy as np

from experiments.common import Outcome, Run, at_least, main
from experiments.learn.common import made_with
from experiments.learn.judge import bench, judge, targets_of
from mmx_jax import derive_key
from mmx_jax.learn import Recipe, Settings, fit
from mmx_jax.tasks import draw
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
    """Trains once, timing every block of steps with its evaluation, and judges the result."""
    (seed,) = options.seeds(1)
    task = world(seed)
    assert task.model is not None
    held = draw(task.sample, derive_key(seed, "held out"), 256)
    settings = Settings(
        steps=200 if options.quick else options.steps,
        block=50,
        batch=options.batch,
        compute=options.compute,
        target="fixed",
        seed=seed,
    )
    ends = [time.monotonic()]
    fitted = fit(
        task.model,
        task.modalities,
        task.sample_training,
        held.inputs,
        targets_of(task, seed, "held out", 256),
        Recipe(settings=settings),
        progress=lambda *_: ends.append(time.monotonic()),
    )
    took = [after - before for before, after in itertools.pairwise(ends)]
    # the first block compiles, the second compiles what evaluates
    step = float(np.median(took[2:])) / settings.block
    memory = jax.devices()[0].memory_stats() or {}
    row = judge(bench(task, task.model, seed), fitted.best, 0)
    alpha = row["granger_known_reference"]["alpha"]
    table = {
        "device": jax.devices()[0].device_kind,
        "compute": options.compute,
        "batch": options.batch,
        "ms per step": 1e3 * step,
        "examples per second": options.batch / step,
        "first two blocks, s": sum(took[:2]),
        "all steps, s": ends[-1] - ends[0],
        "peak memory, MB": memory["peak_bytes_in_use"] / 2**20 if memory else None,
        "alpha*": alpha,
        "over": row["granger_known_reference"]["over"],
        "TPR": row["tpr"],
        "FDR": row["fdr"],
    }
    claims = [
        at_least("alpha*", {seed: alpha}, 0.85),
        at_least("TPR", {seed: row["tpr"]}, 0.98),
    ]
    details = [{"seed": seed} | row, made_with("throughput", options)]
    return Outcome(claims, {"training": [table]}, details=details)


if __name__ == "__main__":
    main("learn.throughput", __doc__, experiment, Options, quickly=False)
