"""A certifiable explainer fitted to a cross-modal gating target, and how exactly it is bounded.

Command: ``python -m experiments.certify.reference --out out/reference`` (about five minutes on one
idle core; ``--quick``: 10 inputs, short training). What holds is told in
``results/README.md``. With ``--bound 0.003`` the loss holds an interval bound of the inf to
inf constant around some examples too, which buys a flatter explainer at the price of fit.

The target explains ``f = b_0 s(3 a_0) + b_1 s(-3 a_0)``, s the sigmoid: each ``b_j`` gets its term,
and ``a_0``, which only gates, half of what it moves between them.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.certify.nets import SIZE, sample
from experiments.certify.tightness import versions
from experiments.common import Outcome, Run, at_least, at_most, main
from mmx_jax.certify import lipschitz_bounds
from mmx_jax.explainers import GatedNetwork
from mmx_jax.numerics import derive_key
from mmx_jax.runs import write_json

__all__ = ["Options", "experiment", "fit", "target"]

RADII = {0.01: 1.02, 0.05: 1.06, 0.1: 1.12}
"""The largest ratio that is wanted over all inputs, by radius."""

HEADS, WIDTH, BATCH = 16, 32, 256


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Options of the reference explainer."""

    nets: int = 1
    """How many are fitted."""
    steps: int = 6000
    """Of training."""
    bound: float = 0.0
    """Weight of the certified constant in the loss; 0 leaves it out."""
    inputs: int = 100
    """How many held-out inputs are certified."""


def target(x: dict[str, Any]) -> dict[str, Any]:
    """The explanation that is to be learned, of one example."""
    share = jax.nn.sigmoid(3 * x["a"][0])
    zeros = jnp.zeros(SIZE)
    terms = zeros.at[0].set(x["b"][0] * share).at[1].set(x["b"][1] * (1 - share))
    return {"a": zeros.at[0].set(0.5 * (x["b"][0] - x["b"][1]) * (2 * share - 1)), "b": terms}


def steepness(net: GatedNetwork, x: Any, radius: float = 0.05) -> Any:
    """The certified inf to inf constants of one example, summed over pairs, by intervals."""
    found = lipschitz_bounds(lambda y: net(None, y), x, radius, np.inf, "interval", restarts=0)
    return sum(found.certified.values())


def fit(seed: int, steps: int, bound: float) -> tuple[GatedNetwork, float]:
    """A fitted explainer and its R^2 on held-out inputs, all scores together."""
    first = {m: jnp.zeros(SIZE) for m in ("a", "b")}
    net = GatedNetwork.init(derive_key(seed, "weights"), first, HEADS, WIDTH)
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def errors(net: Any, x: Any) -> tuple[Any, Any]:
        wanted = jax.vmap(target)(x)
        got = jax.vmap(lambda y: net(None, y))(x)
        miss = sum(jnp.sum(jnp.square(got[m] - wanted[m])) for m in wanted)
        spread = sum(jnp.sum(jnp.square(v - jnp.mean(v, 0))) for v in wanted.values())
        return miss, spread

    def loss(net: Any, x: Any) -> Any:
        cost = errors(net, x)[0] / BATCH
        if bound:
            few = jax.tree.map(lambda v: v[:16], x)
            cost = cost + bound * jnp.mean(jax.vmap(lambda y: steepness(net, y))(few))
        return cost

    @jax.jit
    def train(state: Any, keys: Any) -> Any:
        def step(state: Any, key: Any) -> tuple[Any, None]:
            net, memory = state
            x, _ = sample(key, BATCH, (SIZE,))
            updates, memory = optimiser.update(jax.grad(loss)(net, x), memory, net)
            return (optax.apply_updates(net, updates), memory), None

        return jax.lax.scan(step, state, keys)[0]

    keys = jax.random.split(derive_key(seed, "batches"), steps)
    with jax.enable_x64(bool(bound)):  # bounds are differentiated in float64
        net = train((net, optimiser.init(net)), keys)[0]
    held, _ = sample(derive_key(seed, "held out"), 4000, (SIZE,))
    miss, spread = errors(net, held)
    return net, float(1 - miss / spread)


def experiment(run: Options) -> Outcome:
    """Fits, certifies, and holds the worst ratio of all inputs and pairs against the targets."""
    seeds = run.seeds(1 if run.quick else run.nets)
    steps, count = (500, 10) if run.quick else (run.steps, run.inputs)

    def certifier(per: str) -> Any:
        def one(net: Any, y: Any, r: Any) -> Any:
            return lipschitz_bounds(lambda z: net(None, z), y, r, per=per)

        return jax.jit(lambda net, x, r: jax.lax.map(lambda y: one(net, y, r), x, batch_size=4))

    certify = {per: certifier(per) for per in ("pair", "joint")}
    r2, rows, details, seconds = {}, [], [], []
    worst: dict[Any, dict[int, float]] = {(per, r): {} for per in certify for r in RADII}
    for seed in seeds:
        net, r2[seed] = fit(seed, steps, run.bound)
        points, _ = sample(derive_key(seed, "points"), count, (SIZE,))
        for (per, r), known in worst.items():
            started = time.monotonic()
            found = jax.block_until_ready(certify[per](net, points, r))
            seconds.append((time.monotonic() - started) / count)
            found.check()
            ratios = np.stack([found.certified[p] / found.searched[p] for p in found.point])
            known[seed] = float(ratios.max())
            rows.append(
                {
                    "seed": seed,
                    "R^2": r2[seed],
                    "per": per,
                    "radius": r,
                    "worst ratio": known[seed],
                    "median ratio": float(np.median(ratios.max(0))),
                    "largest certified": max(float(v.max()) for v in found.certified.values()),
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    claims = [at_least("R^2 on held-out inputs", r2, 0.98)]
    what = {"pair": "the worst pair", "joint": "the whole explainer"}
    claims += [
        at_most(f"{what[per]}, worst ratio of {count} inputs, radius {r}", worst[per, r], RADII[r])
        for per, r in worst
    ]
    command = f"python -m experiments.certify.reference --nets {len(seeds)} --bound {run.bound}"
    details.append({"versions": versions(), "command": command})

    def write_times(path: Path) -> None:
        write_json(path, {"seconds_per_input": float(np.median(seconds))})

    return Outcome(claims, {"reference": rows}, {"timings.json": write_times}, details)


if __name__ == "__main__":
    main("certify.reference", __doc__, experiment, Options)
