"""How tight certified Lipschitz constants are: certified / searched, medians over trained nets.

Command: ``python -m experiments.certify.tightness --rows gelu,tanh --out out/tightness`` (names as
in ``tables.py``; without ``--rows`` all but the attention net's gradient). Each row takes 1 to 5
minutes on two idle cores, most of it compiling; the attention rows more, integrated gradients 20.
``--quick``: one net of one row. Expected: every claim but those that ``results/README.md`` names
passes. The ratio of a net is that of its worst block, at one held-out point; the search runs 16
ascents of 40 steps. Beside the ratios stand the product of the net's spectral norms and how far it
lies above the truth.
"""

import dataclasses
import importlib.metadata
import platform
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.certify.nets import sample, train
from experiments.certify.tables import ROWS, Row
from experiments.common import Outcome, Run, at_least, main
from mmx_jax.certify import lift, lipschitz_bounds
from mmx_jax.errors import UnknownNameError
from mmx_jax.numerics import derive_key
from mmx_jax.runs import write_json

__all__ = ["Options", "experiment", "versions"]

QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Of XLA, for programs that take no second anyway: a third less time to compile."""


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Options of the tightness tables."""

    rows: str = ""
    """Names of rows, separated by commas; all but the slow ones by default."""
    nets: int = 5
    """How many nets a row has."""
    method: str | None = None
    """The domain of all rows; by default each row's own."""


def versions() -> dict[str, str]:
    """What a measurement depends on."""
    packages = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    return packages | {"python": platform.python_version(), "machine": platform.machine()}


def measure(
    row: Row, seeds: list[int], method: str | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """Ratios of one row, all blocks of all nets, and its times."""
    first = {m: jnp.zeros(row.net.shape) for m in ("a", "b")}
    method = method or row.method

    def bounds(params: Any, x: Any, r: Any) -> Any:
        lifted = lift(lambda y: row.net.model(params, y), first)
        return lipschitz_bounds(row.explain(lifted), x, r, row.norm, method, memory=row.memory)

    compiled, seconds, nets = None, [], []
    compile_s, used = 0.0, ""
    for seed in seeds:
        trained = train(row.net, seed)
        points, _ = sample(derive_key(seed, "points"), 1, row.net.shape)
        x = jax.tree.map(lambda v: v[0], points)
        if compiled is None:
            options = {} if row.heavy else QUICKLY
            started = time.process_time()
            compiled = jax.jit(bounds).lower(trained.params, x, 0.01).compile(options)
            compile_s = time.process_time() - started
        ratios, certified = {}, {}
        for r in row.targets:
            started = time.monotonic()
            found = jax.block_until_ready(compiled(trained.params, x, r))
            seconds.append(time.monotonic() - started)
            used = found.method
            found.check()
            pairs = {f"{n}<-{m}": (n, m) for n, m in found.point}
            certified[str(r)] = {s: float(found.certified[p]) for s, p in pairs.items()}
            ratios[str(r)] = {
                s: float(found.certified[p] / found.searched[p]) for s, p in pairs.items()
            }
        nets.append(
            {
                "seed": seed,
                "accuracy": trained.accuracy,
                "spectral_product": trained.spectral,
                "ratios": ratios,
                "certified": certified,
            }
        )
        worst = {r: round(max(v.values()), 4) for r, v in ratios.items()}
        print(row.name, seed, f"{trained.accuracy:.3f}", worst, file=sys.stderr, flush=True)
    medians = {
        str(r): float(np.median([max(net["ratios"][str(r)].values()) for net in nets]))
        for r in row.targets
    }
    details = {"row": row.name, "title": row.title, "medians": medians, "nets": nets}
    times = {"compile_cpu_s": compile_s, "run_s": float(np.median(seconds))}
    return details | {"method": used, "norm": str(row.norm)}, times


def chosen(run: Options) -> list[Row]:
    """The rows asked for."""
    known = {row.name: row for row in ROWS}
    names = [n.strip() for n in run.rows.split(",") if n.strip()]
    for name in names:
        if name not in known:
            raise UnknownNameError("row", name, known)
    rows = [known[n] for n in names] or [r for r in ROWS if not r.slow]
    return rows[:1] if run.quick else rows


def experiment(run: Options) -> Outcome:
    """Measures the rows and holds their medians against the targets."""
    seeds = run.seeds(1 if run.quick else run.nets)
    claims, table, details, timings = [], [], [], {}
    for row in chosen(run):
        found, timings[row.name] = measure(row, seeds, run.method)
        details.append(found)
        for r, target in row.targets.items():
            value = found["medians"][str(r)]
            claims.append(
                {
                    "claim": f"{row.title}, radius {r}: median certified / searched, at most",
                    "value": value,
                    "threshold": target,
                    "passed": bool(value <= target),
                    "seeds": {
                        str(net["seed"]): max(net["ratios"][str(r)].values())
                        for net in found["nets"]
                    },
                }
            )
        accuracies = {net["seed"]: net["accuracy"] for net in found["nets"]}
        claims.append(at_least(f"{row.title}: held-out accuracy", accuracies, 0.95))
        table.append(
            {"row": row.title}
            | {f"ratio at {r}": found["medians"][str(r)] for r in row.targets}
            | {"accuracy": min(net["accuracy"] for net in found["nets"])}
            | {"norm product": float(np.median([n["spectral_product"] for n in found["nets"]]))}
        )
    named = ",".join(row.name for row in chosen(run))
    command = f"python -m experiments.certify.tightness --rows {named} --nets {len(seeds)}"
    command += f" --method {run.method}" if run.method else ""
    details.append({"versions": versions(), "command": command})

    def write_times(path: Path) -> None:
        write_json(path, timings)

    return Outcome(claims, {"tightness": table}, {"timings.json": write_times}, details)


if __name__ == "__main__":
    main("certify.tightness", __doc__, experiment, Options)
