"""The pure part of training: a state, and a compiled block of steps that carries it on.

A step depends on the state and its own number alone, so a state is all that resuming needs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from mmx_jax.learn.constraints import Balance
from mmx_jax.learn.settings import Settings
from mmx_jax.numerics import is_inexact, is_key
from mmx_jax.typing import PRNGKey

__all__ = ["Program", "State", "cast"]

Losses = dict[str, Float[Array, "*steps"]]
Rows = tuple[Any, Any, Any, Any]
"""Inputs, labels, targets and keys, with leading axes."""


class State(NamedTuple):
    """Everything that training carries from step to step.

    Attributes:
      params: of the network.
      average: of the parameters over steps, which is what is evaluated and kept.
      moments: of the optimiser.
      multipliers: of the limits.
      step: how many are done.
    """

    params: PyTree
    average: PyTree
    moments: PyTree
    multipliers: PyTree
    step: Int[Array, ""]


def cast(tree: PyTree, dtype: Any) -> PyTree:
    """The tree with its real leaves in another precision."""
    return jax.tree.map(lambda x: x.astype(dtype) if is_inexact(x) else x, tree)


@dataclasses.dataclass(frozen=True)
class Program:
    """What never changes during a run.

    Attributes:
      graphdef: the structure of the network.
      balance: weights and limits of the losses.
      settings: how it is trained.
      fixed_target: the target where ``settings.target`` is ``"fixed"``.
      mesh: devices to spread each batch over.
    """

    graphdef: Any
    balance: Balance
    settings: Settings
    fixed_target: int = 0
    mesh: Mesh | None = None

    @property
    def rows(self) -> int:
        """Examples per chunk."""
        return self.settings.rows(1 if self.mesh is None else self.mesh.size)

    @property
    def devices(self) -> Mesh:
        """The mesh, or one of a single device, so that both run the same program."""
        return self.mesh or Mesh(np.array(jax.local_devices()[:1]), ("examples",))

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW with clipped gradients, warm-up and cosine decay."""
        settings, total = self.settings, self.settings.total
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, settings.learning_rate, total // 20 + 1, total + 1
        )
        decay = optax.adamw(schedule, weight_decay=settings.weight_decay)
        return optax.chain(optax.clip_by_global_norm(settings.clip), decay)

    def start(self, params: PyTree) -> State:
        """The state before training; it owns copies, because a block takes its state's memory."""
        state = State(
            jax.tree.map(jnp.copy, params),
            jax.tree.map(jnp.copy, params),
            self.optimizer().init(params),
            self.balance.start(),
            jnp.zeros((), jnp.int32),
        )
        return self.replicated(state)

    def replicated(self, tree: PyTree) -> PyTree:
        """The tree on every device of the mesh; every host gives the same."""
        where = NamedSharding(self.devices, P())
        if jax.process_count() == 1:
            return jax.device_put(tree, where)

        def whole(x: Any) -> Array:
            if is_key(x):
                return jax.random.wrap_key_data(whole(jax.random.key_data(x)))
            data = np.asarray(x)
            return jax.make_array_from_callback(data.shape, where, lambda index: data[index])

        return jax.tree.map(whole, tree)

    def local(self, tree: PyTree) -> PyTree:
        """A replicated tree as arrays of this process, for what runs on one device."""
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), tree)

    def draw(self, step: Any, objective: Any, sample: Any, key: PRNGKey) -> Rows:
        """The batch of a step in chunks: inputs, labels, targets, keys ``[chunks, rows, ...]``."""
        settings = self.settings
        for_data, for_target, for_losses = jax.random.split(jax.random.fold_in(key, step), 3)
        inputs, labels = sample(for_data, settings.batch)[:2]
        if settings.target == "fixed":
            targets = jnp.full((settings.batch,), self.fixed_target, jnp.int32)
        else:
            outputs = jax.vmap(objective.outputs)(inputs)
            targets = jnp.argmax(outputs, -1).astype(jnp.int32)
            if settings.target == "random":
                targets = jax.random.randint(for_target, targets.shape, 0, outputs.shape[-1])
        keys = jax.random.split(for_losses, settings.batch)
        size = self.rows
        return jax.tree.map(
            lambda x: x.reshape(-1, size, *x.shape[1:]), (inputs, labels, targets, keys)
        )

    def losses(self, params: PyTree, rows: Rows, objective: Any) -> Losses:
        """Mean losses of one chunk."""
        if self.settings.compute == "float32":
            return objective(nnx.merge(self.graphdef, params), *rows)
        network = nnx.merge(self.graphdef, cast(params, jnp.bfloat16))

        def halved(inputs: Any, target: Any) -> PyTree:
            return cast(network(cast(inputs, jnp.bfloat16), target), jnp.float32)

        return objective(halved, *rows)

    def mean(self, one: Callable[..., PyTree], chunks: Rows, *shared: PyTree) -> PyTree:
        """The mean of ``one(rows, *shared)`` over chunks, summed in one order.

        Training grows every difference in rounding, so a chunk is the body of one loop, whether a
        device has one chunk or all of them. In float64 one device, eight and two hosts agree to
        1e-5 and far below; in float32 what XLA makes of a program of a single device has gradients
        that differ by some 3e-8 from those of several, and 256 steps make 1e-3 of them.
        """
        count = self.settings.batch // self.rows
        like = jax.eval_shape(one, jax.tree.map(lambda x: x[0], chunks), *shared)
        zeros, tree = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like))

        def local(chunks: Rows, shared: tuple[PyTree, ...]) -> Float[Array, "chunks entries"]:
            share = count // jax.lax.axis_size("examples")
            first = share * jax.lax.axis_index("examples")

            def place(i: Any, parts: Array) -> Array:
                rows = jax.tree.map(lambda x: x[i], chunks)
                return parts.at[i].set(ravel_pytree(one(rows, *shared))[0])

            nothing = jnp.zeros((count, zeros.shape[0]), zeros.dtype)
            parts = jax.lax.fori_loop(first, first + share, place, nothing)
            mine = jax.lax.dynamic_slice_in_dim(parts, first, share)
            return jax.lax.all_gather(mine, "examples", tiled=True)

        parts = jax.shard_map(
            local, mesh=self.devices, in_specs=P(), out_specs=P(), check_vma=False
        )(chunks, shared)
        parts = jax.lax.optimization_barrier(parts)
        total = jax.lax.fori_loop(0, count, lambda i, total: total + parts[i], zeros)
        return tree(total / count)

    def names(self, state: State, objective: Any, sample: Any, key: PRNGKey) -> list[str]:
        """The names of the losses."""

        def first(params: PyTree, step: Any) -> Losses:
            chunks = self.draw(step, objective, sample, key)
            return self.losses(params, jax.tree.map(lambda x: x[0], chunks), objective)

        return list(jax.eval_shape(first, state.params, state.step))

    def compiled(self) -> Callable[[State, Any, Any, PRNGKey], tuple[State, Losses]]:
        """``block(state, objective, sample, key)``: the state after a block, and all its losses.

        Weights, data and key are arguments, so that runs with other seeds share the program.
        """
        return jax.jit(self._block, donate_argnums=0)

    def _block(
        self, state: State, objective: Any, sample: Any, key: PRNGKey
    ) -> tuple[State, Losses]:
        optimizer, balance = self.optimizer(), self.balance
        names = self.names(state, objective, sample, key)

        def slopes_and_losses(rows: Rows, params: PyTree, prices: Losses, objective: Any) -> Any:
            def priced(params: PyTree) -> tuple[Array, Losses]:
                losses = self.losses(params, rows, objective)
                return sum((prices[n] * x for n, x in losses.items()), jnp.zeros(())), losses

            return jax.grad(priced, has_aux=True)(params)

        def only_losses(rows: Rows, params: PyTree, objective: Any) -> Losses:
            return self.losses(params, rows, objective)

        def step(state: State, _: None) -> tuple[State, Losses]:
            chunks = self.draw(state.step, objective, sample, key)
            # without limits the price of a loss is its weight, whatever the losses are
            losses = dict.fromkeys(names, jnp.zeros(()))
            if balance.limits:
                losses = self.mean(only_losses, chunks, state.params, objective)
            progress = state.step / self.settings.total
            prices = balance.prices(losses, state.multipliers, progress)
            slopes, losses = self.mean(slopes_and_losses, chunks, state.params, prices, objective)
            updates, moments = optimizer.update(slopes, state.moments, state.params)
            params = optax.apply_updates(state.params, updates)
            # a short memory at first, so that the average is not of the random start
            decay = jnp.minimum(self.settings.ema, (1.0 + state.step) / (10.0 + state.step))
            average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.average, params)
            multipliers = balance.update(losses, state.multipliers)
            return State(params, average, moments, multipliers, state.step + 1), losses

        return jax.lax.scan(step, state, length=self.settings.block)
