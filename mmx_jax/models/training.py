"""A training loop, made to be read and forked."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from mmx_jax.errors import InputError
from mmx_jax.model import as_callable
from mmx_jax.models.data import History
from mmx_jax.numerics import derive_key

__all__ = ["train"]


def train(
    module: nnx.Module,
    sample: Callable[..., Any],
    held_out: Any,
    *,
    steps: int = 800,
    batch: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    blocks: int = 10,
    progress: Callable[[int, int, float, float], None] | None = None,
) -> tuple[Any, History]:
    """Minimises cross-entropy with AdamW, warm-up and cosine decay; the same seed, the same bits.

    ``sample(key, n)`` gives inputs and labels first (a task's sampler, ``Resample`` of arrays);
    ``held_out`` is one such batch; ``progress(steps done, steps, loss, held-out accuracy)`` is
    called after each of ``blocks`` scans. Refuses modules with state (batch norm, dropout).
    """
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    if min(steps, blocks, batch) < 1:
        raise InputError("steps, blocks, batch", f"are {steps, blocks, batch}", "use 1 or more")
    if jax.tree.leaves(rest):
        raise InputError("module", "has state beside its weights", "write a loop that carries it")
    length = -(-steps // blocks)
    total = length * blocks
    keys = jax.random.split(derive_key(seed, "training"), (blocks, length))
    state = _start(params, learning_rate, total)
    settings = (graphdef, batch, learning_rate, total)
    history = []
    for done, chunk in enumerate(keys, 1):
        state, loss, hit = _block(state, chunk, as_callable(sample), tuple(held_out[:2]), settings)
        history.append((np.asarray(loss), float(hit)))
        if progress:
            progress(done * length, total, float(loss[-1]), float(hit))
    losses, hits = zip(*history, strict=True)
    return nnx.merge(graphdef, state[0]), History(np.concatenate(losses), np.array(hits))


def _optimizer(learning_rate: float, total: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, total // 20 + 1, total + 1)
    # one flat vector of weights compiles faster than many arrays
    return optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule)))


@partial(jax.jit, static_argnums=(1, 2))
def _start(params, learning_rate, total):
    # copies, because donation would take the caller's weights
    return jax.tree.map(jnp.copy, (params, _optimizer(learning_rate, total).init(params)))


@partial(jax.jit, static_argnums=4, donate_argnums=0)  # compiled once for all seeds
def _block(state, keys, sample, held_out, settings):
    graphdef, batch, learning_rate, total = settings
    optimizer = _optimizer(learning_rate, total)

    def outputs(params, inputs):
        return jax.vmap(nnx.merge(graphdef, params))(inputs)

    def loss_of(params, inputs, labels):
        raw = outputs(params, inputs)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(raw, labels))

    def step(state, key):
        params, moments = state
        inputs, labels = sample(key, batch)[:2]
        loss, slopes = jax.value_and_grad(loss_of)(params, inputs, labels)
        updates, moments = optimizer.update(slopes, moments, params)
        return (optax.apply_updates(params, updates), moments), loss

    state, losses = jax.lax.scan(step, state, keys)
    hits = jnp.argmax(outputs(state[0], held_out[0]), -1) == held_out[1]
    return state, losses, jnp.mean(hits)
