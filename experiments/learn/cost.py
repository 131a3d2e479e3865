"""What a learned explainer costs: per explanation, in training, and after how many it pays.

On a transformer trained on the mixed world: seconds per explanation of the learned network, of
integrated gradients with 50 steps and of Shapley values by 16 pairs of orders, compiled and in
batches, arms alternated, the best of several rounds. Training is timed over whole blocks of steps
beside a plain loop over the same losses: one jitted step per batch, as one writes it by hand.
Process CPU time, compilation apart.

Run:      python -m experiments.learn.cost
Expected: 500 times less time than integrated gradients; break-even against Shapley values within
          5,000 explanations; steps at least as fast as the plain loop. 5 minutes on one core.
"""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.cell import trained
from experiments.common import Outcome, Run, at_least, at_most, main
from experiments.learn.common import POOL, made_with
from mmx_jax import FeatureGates, derive_key, derive_keys, map_examples
from mmx_jax import explainers as ex
from mmx_jax.learn import Desiderata, NetworkSettings, Recipe, Settings, build_network
from mmx_jax.learn.network import as_explainer
from mmx_jax.learn.objectives import gather_pool
from mmx_jax.learn.step import Program
from mmx_jax.tasks import Task, draw
from mmx_jax.tasks import mixed as world
from mmx_jax.typing import Model


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """How long the training is that has to pay, and how often everything is timed."""

    steps: int = 1000
    """Steps of the training that has to pay."""
    rounds: int = 3
    """Everything is timed so often."""


def cpu_seconds(call: Any) -> float:
    """Process time of one call, everything computed."""
    started = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - started


def explanations(
    task: Task, model: Model, learned: Any, rounds: int, quick: bool
) -> dict[str, dict[str, float]]:
    """Seconds per explanation and model calls, by explainer."""
    m = task.modalities
    arms = {
        "learned": (learned, 16384),
        "integrated gradients, 50 steps": (ex.IntegratedGradients(m, steps=50), 32),
        "Shapley, 16 pairs of orders": (ex.PermutationShapley(m, pairs=16), 16),
    }
    runs = {}
    for name, (explainer, most) in arms.items():
        count = min(most, 16) if quick else most
        inputs = draw(task.sample, derive_key(0, "timed"), count).inputs
        keys, targets = derive_keys(0, "timed", count), jnp.ones(count, jnp.int32)

        def call(explainer: Any = explainer, rows: Any = (inputs, targets, keys)) -> Any:
            return map_examples(explainer, model, *rows, in_axes=(None, 0, 0, 0))

        call()
        runs[name] = call, count, explainer.evaluations
    best = dict.fromkeys(runs, np.inf)
    for _ in range(rounds):
        for name, (call, count, _) in runs.items():
            best[name] = min(best[name], cpu_seconds(call) / count)
    return {n: {"seconds": best[n], "model calls": float(runs[n][2])} for n in runs}


def steps(
    task: Task, model: Model, network: nnx.Module, recipe: Recipe, rounds: int
) -> dict[str, float]:
    """Seconds per step of the trainer and of a plain loop, and of their compilation."""
    graphdef, params = nnx.split(network)
    params = nnx.as_pure(params)
    gates, key = FeatureGates(task.modalities), derive_key(0, "training")
    started = time.process_time()
    rows = draw(task.sample_training, derive_key(0, "pool"), recipe.pool).inputs
    sample = gather_pool(gates, model, rows, np.ones(recipe.pool, np.int32), key)
    pooling = time.process_time() - started
    objective = Desiderata(
        gates,
        model,
        jnp.ones(()),
        sample,
        recipe.demands,
        faithful_thinning=recipe.faithful_thinning,
    )
    program = Program(graphdef, recipe.balance, recipe.settings, 1)
    block, length = program.compiled(), recipe.settings.block
    state = program.start(params)

    def trainer() -> Any:
        nonlocal state
        state, losses = block(state, objective, sample, key)
        return losses

    optimizer = program.optimizer()
    batch = recipe.settings.batch

    @jax.jit
    def step(params: Any, moments: Any, key: Any) -> Any:
        inputs, labels = sample(jax.random.fold_in(key, 0), batch)[:2]
        keys, targets = jax.random.split(key, batch), jnp.ones(batch, jnp.int32)

        def loss(params: Any) -> Any:
            losses = objective(nnx.merge(graphdef, params), inputs, labels, targets, keys)
            return sum(weight * losses[name] for name, weight in recipe.balance.weights)

        slopes = jax.grad(loss)(params)
        updates, moments = optimizer.update(slopes, moments, params)
        return optax.apply_updates(params, updates), moments

    plain: Any = params, optimizer.init(params)

    def loop() -> Any:
        nonlocal plain
        for i in range(length):
            plain = step(*plain, jax.random.fold_in(key, i))
        return plain

    found = {
        "the model on the pool": pooling,
        "trainer, compiling and first block": cpu_seconds(trainer),
        "plain loop, compiling and first block": cpu_seconds(loop),
    }
    best = {"trainer": np.inf, "plain loop": np.inf}
    for _ in range(rounds):
        for name, call in (("trainer", trainer), ("plain loop", loop)):
            best[name] = min(best[name], cpu_seconds(call) / length)
    return found | best


def experiment(options: Options) -> Outcome:
    """Times everything on one transformer."""
    (seed,) = options.seeds(1)
    task = world(seed)
    model, accuracy = trained(task, seed, 100 if options.quick else 800)
    settings = Settings(steps=options.steps, block=5 if options.quick else 20, target="fixed")
    recipe = Recipe(settings=settings, pool=256 if options.quick else POOL, faithful_thinning=4)
    network = build_network(NetworkSettings(), task.modalities, 2, 1.0)
    times = explanations(task, model, as_explainer(network), options.rounds, options.quick)
    per_step = steps(task, model, network, recipe, options.rounds)
    before = per_step["the model on the pool"] + per_step["trainer, compiling and first block"]
    training = before + options.steps * per_step["trainer"]
    seconds = {name: row["seconds"] for name, row in times.items()}
    learned, gradients, shapley = seconds.values()
    even = training / (shapley - learned)
    claims = [
        at_most("model calls per explanation", {seed: times["learned"]["model calls"]}, 0),
        at_least("integrated gradients over learned, time", {seed: gradients / learned}, 500),
        at_most("break-even against Shapley, explanations", {seed: even}, 5000),
        at_least(
            "plain loop over trainer, time", {seed: per_step["plain loop"] / per_step["trainer"]}, 1
        ),
    ]
    table = [{"explainer": name} | row for name, row in times.items()]
    training_rows = [{"what": name, "seconds": value} for name, value in per_step.items()]
    training_rows.append({"what": f"training of {options.steps} steps", "seconds": training})
    details = [{"accuracy": accuracy} | made_with("cost", options)]
    return Outcome(claims, {"explanations": table, "training": training_rows}, details=details)


if __name__ == "__main__":
    main("learn.cost", __doc__, experiment, Options, quickly=False)
