"""How the time to compile and to run a certificate grows with width, depth and tokens.

Command: ``python -m experiments.certify.scaling --out out/scaling`` (about ten minutes on one idle
core; ``--parts width,depth,tokens`` takes some of them; ``--quick``: depth only). Wanted:
compiling grows less than 1.3 times from 4 to 16 layers in a scan, and takes at most 60 s for the
attention layer. Times to compile are CPU time of the process, so a shared machine does not change
them much; times to run are the fastest of three.

Networks have fresh weights. Width: gradients of a gelu network of two layers. Depth: the Jacobian
of equal tanh layers in a ``lax.scan``, and unrolled beside it. Tokens: the Jacobian of the logits
of one attention layer of width 16.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.certify.nets import SIZE, attention, mlp, sample
from experiments.certify.tables import gradient, jacobian
from experiments.certify.tightness import versions
from experiments.common import Outcome, Run, at_most, main
from mmx_jax.certify import lift, lipschitz_bounds
from mmx_jax.errors import UnknownNameError
from mmx_jax.numerics import derive_key

__all__ = ["Options", "experiment", "timed"]

PARTS = ("width", "depth", "tokens")


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Options of the scaling table."""

    parts: str = ",".join(PARTS)
    """What grows, separated by commas."""


def timed(
    model: Callable[[Any, Any], Any], params: Any, x: Any, explain: Any, method: str
) -> dict[str, float | str]:
    """CPU seconds to compile, seconds to run, and the worst ratio to the constant at the point."""

    def bounds(params: Any, x: Any, r: Any) -> Any:
        lifted = lift(lambda y: model(params, y), x)
        return lipschitz_bounds(explain(lifted), x, r, method=method, restarts=0)

    started = time.process_time()
    compiled = jax.jit(bounds).lower(params, x, 0.01).compile()
    compile_s, runs = time.process_time() - started, []
    for _ in range(3):
        started = time.perf_counter()
        found = jax.block_until_ready(compiled(params, x, 0.01))
        runs.append(time.perf_counter() - started)
    ratio = max(float(found.certified[p] / found.point[p]) for p in found.point)
    return {
        "method": found.method,
        "compile cpu s": compile_s,
        "run s": min(runs),
        "certified / point at 0.01": ratio,
    }


def deep(layers: int, scanned: bool, width: int = 16) -> tuple[Any, Any]:
    """A residual-free tanh network of equal layers, and its weights."""
    keys = jax.random.split(derive_key(layers, "weights"), layers)
    weights = jnp.stack([jax.random.normal(k, (width, width)) / width**0.5 for k in keys])

    def model(weights: Any, x: Any) -> Any:
        h = jnp.concatenate([x["a"], x["b"]])
        if scanned:
            return jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), h, weights)[0][:2]
        for w in weights:
            h = jnp.tanh(h @ w)
        return h[:2]

    return model, weights


def experiment(run: Options) -> Outcome:
    """Times every size."""
    parts = ["depth"] if run.quick else [p.strip() for p in run.parts.split(",")]
    for part in parts:
        if part not in PARTS:
            raise UnknownNameError("part", part, PARTS)
    points, _ = sample(derive_key(run.seed, "points"), 1, (SIZE,))
    x = jax.tree.map(lambda v: v[0], points)
    rows: list[dict[str, Any]] = []

    def add(what: str, size: int, *args: Any) -> dict[str, Any]:
        rows.append({"what": what, "size": size, **timed(*args)})
        print(rows[-1], file=sys.stderr, flush=True)
        return rows[-1]

    claims = []
    if "width" in parts:
        for width in (32, 128, 512):
            net = mlp((width, width), jax.nn.gelu)
            add("width", width, net.model, net.init(derive_key(width, "w")), x, gradient, "full")
    if "depth" in parts:
        compiles = {}
        for layers in (4, 16, 64):
            found = add("layers, scanned", layers, *deep(layers, True), x, jacobian, "full")
            compiles[layers] = found["compile cpu s"]
        if not run.quick:
            for layers in (4, 16):
                add("layers, unrolled", layers, *deep(layers, False), x, jacobian, "full")
        growth = {run.seed: compiles[16] / compiles[4]}
        claims.append(at_most("compile time, 16 layers / 4 layers in a scan", growth, 1.3))
    if "tokens" in parts:
        slowest = {}
        for tokens in (2, 4, 8):
            net = attention(tokens=(tokens, SIZE))
            held, _ = sample(derive_key(run.seed, "points"), 1, net.shape)
            y = jax.tree.map(lambda v: v[0], held)
            params = net.init(derive_key(tokens, "w"))
            found = add("tokens", 2 * tokens, net.model, params, y, jacobian, "affine")
            slowest[2 * tokens] = found["compile cpu s"]
        claims.append(at_most("compile CPU seconds of an attention layer", slowest, 60))
    command = f"python -m experiments.certify.scaling --parts {','.join(parts)}"
    return Outcome(claims, {"scaling": rows}, {}, [{"versions": versions(), "command": command}])


if __name__ == "__main__":
    main("certify.scaling", __doc__, experiment, Options)
