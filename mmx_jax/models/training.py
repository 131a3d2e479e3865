"""A training loop, made to be read and forked."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from optax import softmax_cross_entropy_with_integer_labels as cross_entropy

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

    ``sample(key, n)`` gives inputs and labels first (a sampler), ``held_out`` is such a batch,
    ``progress(steps done, steps, loss, held-out accuracy)`` follows each scan. Refuses state.
    """
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    if min(steps, blocks, batch) < 1:
        raise InputError("steps, blocks, batch", f"are {steps, blocks, batch}", "use 1 or more")
    if jax.tree.leaves(rest):
        raise InputError("module", "has state beside its weights", "write a loop that carries it")
    length = -(-steps // blocks)
    settings = (graphdef, batch, learning_rate, total := length * blocks)
    keys = jax.random.split(derive_key(seed, "training"), (blocks, length))
    state = jax.jit(lambda p: jax.tree.map(jnp.copy, (p, _adamw(*settings[2:]).init(p))))(params)
    history = []
    for done, chunk in enumerate(keys, 1):
        state, loss, hit = _block(state, chunk, as_callable(sample), tuple(held_out[:2]), settings)
        history.append((np.asarray(loss), float(hit)))
        if progress:
            progress(done * length, total, float(loss[-1]), float(hit))
    losses, hits = zip(*history, strict=True)
    return nnx.merge(graphdef, state[0]), History(np.concatenate(losses), np.array(hits))


def _adamw(rate, total):  # flattened, because one vector compiles faster than many arrays
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, total // 20 + 1, total + 1)
    return optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule)))


@partial(jax.jit, static_argnums=4, donate_argnums=0)  # one program for all seeds; takes its copies
def _block(state, keys, sample, held_out, settings):
    graphdef, batch, optimizer = settings[0], settings[1], _adamw(*settings[2:])

    def outputs(params, inputs):
        return jax.vmap(nnx.merge(graphdef, params))(inputs)

    def loss_of(params, x, labels):
        return cross_entropy(outputs(params, x), labels).mean()

    def step(state, key):
        loss, slopes = jax.value_and_grad(loss_of)(state[0], *sample(key, batch)[:2])
        updates, moments = optimizer.update(slopes, state[1], state[0])
        return (optax.apply_updates(state[0], updates), moments), loss

    state, losses = jax.lax.scan(step, state, keys)
    return state, losses, jnp.mean(outputs(state[0], held_out[0]).argmax(-1) == held_out[1])
