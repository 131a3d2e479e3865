"""Our bounds against auto_LiRPA's on the same weights, points and boxes, in one run.

Command: ``python -m experiments.certify.against_lirpa --python VENV/bin/python --out out/lirpa``,
where VENV has torch (2.13) and auto_LiRPA from https://github.com/Verified-Intelligence/auto_LiRPA
(0.7; the 0.3 of PyPI has no Jacobians). About ten minutes on one idle core, nearly all of it
auto_LiRPA's with optimised slopes. ``--quick``: one net of each kind, one radius. Wanted: our bound
is not looser in the median, and at least 50 times faster per input once compiled; what holds is
told in ``results/README.md``.

The quantity is the inf to inf constant of the logits on a box, which auto_LiRPA bounds for relu and
tanh. Its plain and its optimised bounds are both taken, ours is held against the tighter, and its
time is that of the same call, without building its graph; ours is without compiling.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.certify.nets import SIZE, apply, mlp, sample, train
from experiments.certify.tightness import versions
from experiments.common import Outcome, Run, at_least, at_most, main
from mmx_jax.certify import lift, lipschitz_bounds
from mmx_jax.errors import InputError
from mmx_jax.numerics import derive_key

__all__ = ["Options", "experiment"]

KINDS = {
    "relu 2 x 32": ((32, 32), jax.nn.relu, "relu"),
    "tanh 2 x 32": ((32, 32), jnp.tanh, "tanh"),
    "tanh 3 x 64": ((64, 64, 64), jnp.tanh, "tanh"),
}
RADII = (0.01, 0.05, 0.1)


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Options of the comparison."""

    python: str = ""
    """The interpreter of an environment with torch and auto_LiRPA."""
    nets: int = 3
    """How many nets of each kind."""
    method: str = "shaped"
    """Our domain."""


def ours(act: Any, layers: Any, points: Any, radii: Any, method: str) -> tuple[list[Any], float]:
    """Per net and radius point, searched and certified constants and seconds; compile time."""

    def bounds(params: Any, x: Any, r: Any) -> Any:
        lifted = lift(lambda d: apply(params, d["x"], act), {"x": x})
        found = lipschitz_bounds(lambda d: {"y": lifted(d)}, {"x": x}, r, np.inf, method)
        return found.searched["y", "x"], found.certified["y", "x"]

    def proof(params: Any, x: Any, r: Any) -> Any:
        lifted = lift(lambda d: apply(params, d["x"], act), {"x": x})
        fn = lambda d: {"y": lifted(d)}  # noqa: E731
        found = lipschitz_bounds(fn, {"x": x}, r, np.inf, method, restarts=0)
        return found.certified["y", "x"]

    started = time.process_time()
    quick = jax.jit(proof).lower(layers[0], points[0], radii[0]).compile()
    compiled = time.process_time() - started
    whole = jax.jit(bounds)
    rows = []
    for params, x in zip(layers, points, strict=True):
        for r in radii:
            searched, certified = whole(params, x, r)
            jax.block_until_ready(quick(params, x, r))
            times = []
            for _ in range(3):
                started = time.perf_counter()
                jax.block_until_ready(quick(params, x, r))
                times.append(time.perf_counter() - started)
            rows.append((float(searched), float(certified), float(np.median(times))))
    return rows, compiled


def theirs(python: Path, arrays: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """What auto_LiRPA finds, in its own environment."""
    script = Path(__file__).with_name("lirpa_side.py")
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "nets.npz", Path(place) / "out.json"
        np.savez(source, plan=json.dumps(plan), **arrays)
        done = subprocess.run([python, script, source, out], check=False)
        if done.returncode:
            raise InputError(
                "python",
                f"is {python}, which can't run auto_LiRPA",
                "install torch 2.13 and auto_LiRPA (its repository's, 0.7) there",
            )
        return json.loads(out.read_text(encoding="utf-8"))


def experiment(run: Options) -> Outcome:
    """Trains the nets, bounds them on both sides, and compares."""
    if not run.python:
        raise InputError(
            "python",
            "is missing",
            "pass --python VENV/bin/python of an environment with torch 2.13 and auto_LiRPA (its "
            "repository's, 0.7)",
        )
    seeds = run.seeds(1 if run.quick else run.nets)
    radii = RADII[1:2] if run.quick else RADII
    arrays, nets, table, compiles = {}, [], [], {}
    mine: dict[tuple[str, float], Any] = {}
    for title, (hidden, act, kind) in KINDS.items():
        layers, points = [], []
        for seed in seeds:
            params = train(mlp(hidden, act), seed).params
            held, _ = sample(derive_key(seed, "points"), 1, (SIZE,))
            x = jnp.concatenate([held["a"][0], held["b"][0]])
            name = f"{title}, {seed}"
            for k, layer in enumerate(params):
                arrays |= {f"{name}/w{k}": layer["w"], f"{name}/b{k}": layer["b"]}
            arrays[f"{name}/x"] = x
            nets.append({"name": name, "kind": kind, "layers": len(params)})
            layers.append(params)
            points.append(x)
        rows, compiles[title] = ours(act, layers, points, radii, run.method)
        keys = [(f"{title}, {seed}", r) for seed in seeds for r in radii]
        mine |= dict(zip(keys, rows, strict=True))
    answer = theirs(Path(run.python), arrays, {"nets": nets, "radii": radii})
    details: list[dict[str, Any]] = list(answer["rows"])
    looser, faster = {}, {}
    for title in KINDS:
        for r in radii:
            ratios, speeds, parts = [], [], []
            for seed in seeds:
                key = (f"{title}, {seed}", r)
                known = [v for v in answer["rows"] if (v["name"], v["radius"]) == key]
                known = [v for v in known if "bound" in v]
                if not known:
                    continue
                best = min(known, key=lambda v: v["bound"])
                searched, certified, seconds = mine[key]
                ratios.append(certified / best["bound"])
                speeds.append(best["seconds"] / seconds)
                parts.append((searched, certified, best["bound"], seconds, best["seconds"]))
            if not parts:
                table.append({"net": title, "radius": r, "auto_LiRPA": "no answer"})
                continue
            middle = np.median(np.array(parts), 0)
            table.append(
                {
                    "net": title,
                    "radius": r,
                    "ours / searched": float(np.median([p[1] / p[0] for p in parts])),
                    "auto_LiRPA / searched": float(np.median([p[2] / p[0] for p in parts])),
                    "ours / auto_LiRPA": float(np.median(ratios)),
                    "our seconds": float(middle[3]),
                    "its seconds": float(middle[4]),
                    "our compile seconds": compiles[title],
                }
            )
            looser[len(table)] = float(np.median(ratios))
            faster[len(table)] = float(np.median(speeds))
    claims = [
        at_most("ours / the tighter of auto_LiRPA's, median of each net and radius", looser, 1.0),
        at_least("times faster per input, median", faster, 50),
    ]
    command = "python -m experiments.certify.against_lirpa --python VENV/bin/python"
    command += f" --nets {len(seeds)} --method {run.method}"
    details.append({"versions": versions() | answer["versions"], "command": command})
    print(table, file=sys.stderr)
    return Outcome(claims, {"against auto_LiRPA": table}, {}, details)


if __name__ == "__main__":
    main("certify.against_lirpa", __doc__, experiment, Options)
