"""How tight certified Lipschitz constants are: certified / searched, medians over nets.

Command: ``python -m experiments.certify.tightness --out out/tightness`` (``--quick``: one net of
the first rows; ``--rows`` picks rows by name).

Every net is trained by one recipe, so that no ratio is bought by small weights: inputs N(0, I) in
two modalities ``a`` and ``b``, the label of a gated world (the sign of ``a_0`` says whether ``b_0``
or ``b_1`` decides), Adam 1e-3, no weight decay, until 95 % held-out accuracy at least. Points are
held out too. The product of spectral norms of the weights is reported beside the ratios.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmx_jax.certify import lift, lipschitz_bounds
from mmx_jax.numerics import derive_key

__all__ = ["Row", "main", "rows"]

SIZE = 8


def sample(key: Any, n: int, shape: tuple[int, ...]) -> tuple[dict[str, Any], Any]:
    """Inputs N(0, I) of the shape given per modality, and labels of the gated world."""
    first, second = jax.random.split(key)
    a = jax.random.normal(first, (n, *shape))
    b = jax.random.normal(second, (n, *shape))
    flat_a, flat_b = a.reshape(n, -1), b.reshape(n, -1)
    label = jnp.where(flat_a[:, 0] > 0, flat_b[:, 0] > 0, flat_b[:, 1] > 0)
    return {"a": a, "b": b}, label.astype(jnp.int32)


def dense(key: Any, sizes: list[int]) -> list[dict[str, Any]]:
    """Layers of a network, LeCun normal weights."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"w": jax.random.normal(k, (i, o)) / np.sqrt(i), "b": jnp.zeros(o)}
        for k, i, o in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def apply(layers: Any, h: Any, act: Callable[[Any], Any]) -> Any:
    """A network, linear at the end."""
    for layer in layers[:-1]:
        h = act(h @ layer["w"] + layer["b"])
    return h @ layers[-1]["w"] + layers[-1]["b"]


def mlp(hidden: list[int], act: Any) -> tuple[Any, Any]:
    """Early fusion: one network on both modalities side by side."""

    def init(key: Any) -> Any:
        return dense(key, [2 * SIZE, *hidden, 2])

    def model(params: Any, x: Any) -> Any:
        return apply(params, jnp.concatenate([x["a"], x["b"]]), act)

    return init, model


def late(act: Any) -> tuple[Any, Any]:
    """Late fusion: an encoder per modality, a network on their codes."""

    def init(key: Any) -> Any:
        keys = jax.random.split(key, 3)
        return {
            "a": dense(keys[0], [SIZE, 32, 16]),
            "b": dense(keys[1], [SIZE, 32, 16]),
            "fuse": dense(keys[2], [32, 32, 2]),
        }

    def model(params: Any, x: Any) -> Any:
        codes = [act(apply(params[m], x[m], act)) for m in ("a", "b")]
        return apply(params["fuse"], jnp.concatenate(codes), act)

    return init, model


def attention(dim: int = 16, heads: int = 2) -> tuple[Any, Any]:
    """One pre-norm attention block on 4 + 4 tokens, mean pooling, two logits."""

    def init(key: Any) -> Any:
        keys = jax.random.split(key, 6)
        names = ("q", "k", "v", "o")
        out = {
            n: jax.random.normal(k, (dim, dim)) / np.sqrt(dim)
            for n, k in zip(names, keys[:4], strict=True)
        }
        return out | {
            "mlp": dense(keys[4], [dim, 32, dim]),
            "head": dense(keys[5], [8 * dim, 2]),
        }

    def norm(h: Any) -> Any:
        centered = h - jnp.mean(h, -1, keepdims=True)
        return centered * jax.lax.rsqrt(jnp.mean(centered**2, -1, keepdims=True) + 1e-5)

    def split(h: Any) -> Any:
        return h.reshape(8, heads, dim // heads)

    def model(params: Any, x: Any) -> Any:
        h = jnp.concatenate([x["a"], x["b"]])
        z = norm(h)
        q, k, v = (split(z @ params[n]) for n in "qkv")
        weights = jax.nn.softmax(jnp.einsum("ihd,jhd->hij", q, k) / np.sqrt(dim // heads))
        h = h + jnp.einsum("hij,jhd->ihd", weights, v).reshape(8, dim) @ params["o"]
        h = h + apply(params["mlp"], norm(h), jax.nn.gelu)
        return apply(params["head"], norm(h).ravel(), jax.nn.gelu)

    return init, model


def gradient(model: Any) -> Any:
    """The gradient explainer, of the first logit."""
    return jax.grad(lambda y: model(y)[0])


def jacobian(model: Any) -> Any:
    """The model's own outputs: their Lipschitz constant is the norm of its Jacobian."""
    return lambda x: {"logits": model(x)}


def integrated(model: Any, steps: int = 32, chunk: int = 8) -> Any:
    """Integrated gradients from zero, midpoint rule, a chunk of steps at a time in a scan."""

    def explain(x: Any) -> Any:
        def slopes(t: Any) -> Any:
            return gradient(model)(jax.tree.map(lambda v: t * v, x))

        def body(total: Any, ts: Any) -> Any:
            part = jax.tree.map(lambda v: jnp.sum(v, 0), jax.vmap(slopes)(ts))
            return jax.tree.map(jnp.add, total, part), None

        ts = ((jnp.arange(steps) + 0.5) / steps).reshape(-1, chunk)
        total, _ = jax.lax.scan(body, jax.tree.map(jnp.zeros_like, x), ts)
        return jax.tree.map(lambda g, v: g * v / steps, total, x)

    return explain


@dataclass(frozen=True)
class Row:
    """One row of the table: a net, an explanation, a norm, and the targets by radius."""

    name: str
    net: tuple[Any, Any]
    explain: Callable[[Any], Any]
    targets: dict[float, float]
    norm: float = 2
    shape: tuple[int, ...] = (SIZE,)
    memory: float = 64e6
    slow: bool = False


def rows() -> list[Row]:
    """The table."""
    gelu = jax.nn.gelu
    small = {0.01: 1.02, 0.05: 1.12, 0.1: 1.30}
    boxes = {0.01: 1.05, 0.05: 1.45, 0.1: 2.5}
    tokens = (4, 16)
    return [
        Row("gradient, gelu 2 x 32", mlp([32, 32], gelu), gradient, small),
        Row("gradient, tanh 2 x 32", mlp([32, 32], jnp.tanh), gradient, small),
        Row("gradient, gelu 2 x 32, inf", mlp([32, 32], gelu), gradient, boxes, np.inf),
        Row(
            "gradient, gelu 3 x 64", mlp([64] * 3, gelu), gradient, {0.01: 1.05, 0.05: 1.5, 0.1: 3}
        ),
        Row("Jacobian, tanh 3 x 64", mlp([64] * 3, jnp.tanh), jacobian, {0.01: 1.02, 0.1: 1.35}),
        Row("Jacobian, tanh 4 x 256", mlp([256] * 4, jnp.tanh), jacobian, {0.01: 1.05, 0.1: 4}),
        Row(
            "integrated gradients, gelu 2 x 32",
            mlp([32, 32], gelu),
            integrated,
            {0.01: 1.02, 0.05: 1.1, 0.1: 1.18},
        ),
        Row("late fusion, gelu, gradient", late(gelu), gradient, {0.01: 1.04, 0.05: 1.3, 0.1: 2}),
        Row("attention, Jacobian", attention(), jacobian, {0.01: 1.03, 0.05: 5}, shape=tokens),
        Row(
            "attention, gradient",
            attention(),
            gradient,
            {0.001: 1.5, 0.01: 3},
            shape=tokens,
            slow=True,
        ),
    ]


def train(row: Row, seed: int) -> tuple[Any, float, float]:
    """Weights by the recipe, their held-out accuracy, and the product of their spectral norms."""
    init, model = row.net
    params = init(derive_key(seed, "weights"))
    optimiser = optax.adam(1e-3)
    held, labels = sample(derive_key(seed, "held out"), 4000, row.shape)
    run = jax.vmap(model, (None, 0))

    def loss(params: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(run(params, x), y).mean()

    def step(state: Any, key: Any) -> tuple[Any, None]:
        params, memory = state
        grads = jax.grad(loss)(params, *sample(key, 128, row.shape))
        updates, memory = optimiser.update(grads, memory, params)
        return (optax.apply_updates(params, updates), memory), None

    @jax.jit
    def block(state: Any, key: Any) -> tuple[Any, Any]:
        state, _ = jax.lax.scan(step, state, jax.random.split(key, 500))
        return state, jnp.mean(jnp.argmax(run(state[0], held), -1) == labels)

    state, accuracy = (params, optimiser.init(params)), 0.0
    for k in range(60):
        state, accuracy = block(state, derive_key(seed, "batches", k))
        if accuracy >= 0.95:
            break
    matrices = [leaf for leaf in jax.tree.leaves(state[0]) if leaf.ndim == 2]
    product = float(np.prod([np.linalg.norm(m, 2) for m in matrices]))
    return state[0], float(accuracy), product


def measure(row: Row, seeds: range) -> dict[str, Any]:
    """Ratios of one row, all blocks of all nets, and times."""
    _, model = row.net
    first = {m: jnp.zeros(row.shape) for m in ("a", "b")}

    def bounds(params: Any, x: Any, r: Any) -> Any:
        lifted = lift(lambda y: model(params, y), first)
        return lipschitz_bounds(row.explain(lifted), x, r, row.norm, memory=row.memory)

    compiled, seconds, nets = None, [], []
    compile_s = 0.0
    for seed in seeds:
        params, accuracy, product = train(row, seed)
        points, _ = sample(derive_key(seed, "points"), 1, row.shape)
        x = jax.tree.map(lambda v: v[0], points)
        if compiled is None:
            started = time.monotonic()
            compiled = jax.jit(bounds).lower(params, x, 0.01).compile()
            compile_s = time.monotonic() - started
        ratios = {}
        for r in row.targets:
            started = time.monotonic()
            found = jax.block_until_ready(compiled(params, x, r))
            seconds.append(time.monotonic() - started)
            found.check()
            ratios[r] = {
                f"{n} <- {m}": float(found.certified[n, m] / found.searched[n, m])
                for n, m in found.point
            }
        nets.append({"seed": seed, "accuracy": accuracy, "spectral": product, "ratios": ratios})
        print(row.name, seed, f"{accuracy:.3f}", {r: max(v.values()) for r, v in ratios.items()})
    medians = {
        r: float(np.median([max(net["ratios"][r].values()) for net in nets])) for r in row.targets
    }
    times = {"compile_s": compile_s, "run_s": float(np.median(seconds))}
    return {"row": row.name, "medians": medians, "nets": nets, "times": times}


def main() -> None:
    """Writes ``results.json`` (finite, without times) and ``timings.json``."""
    parser = argparse.ArgumentParser(description="certified / searched")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--slow", action="store_true", help="also the rows that take an hour")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--nets", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/certify_tightness"))
    args = parser.parse_args()
    chosen = [r for r in rows() if args.rows in r.name and (args.slow or args.rows or not r.slow)]
    chosen = chosen[:1] if args.quick else chosen
    seeds = range(args.seed, args.seed + (1 if args.quick else args.nets))
    claims, table, timings = [], [], {}
    for row in chosen:
        result = measure(row, seeds)
        timings[row.name] = result.pop("times")
        print(row.name, result["medians"], timings[row.name], flush=True)
        table.append(result)
        claims += [
            {
                "claim": f"{row.name}, radius {r}: median of the worst block's ratio",
                "value": result["medians"][r],
                "threshold": target,
                "passed": bool(result["medians"][r] <= target),
                "seeds": list(seeds),
            }
            for r, target in row.targets.items()
        ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=args.out.parent))
    (temporary / "results.json").write_text(
        json.dumps({"schema": 1, "claims": claims, "table": table}, indent=1)
    )
    (temporary / "timings.json").write_text(json.dumps(timings, indent=1))
    os.replace(temporary, args.out)


if __name__ == "__main__":
    main()
