"""The pure part of training: a state, and a compiled block of steps that carries it on.

A step depends on the state and its own number alone, so a state is all that resuming needs.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, PyTree

from mmx_jax.learn.constraints import Balance
from mmx_jax.learn.settings import Settings
from mmx_jax.numerics import derive_key

__all__ = ["Program", "State"]

Losses = dict[str, Float[Array, "*steps"]]


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
        return State(
            jax.tree.map(jnp.copy, params),
            jax.tree.map(jnp.copy, params),
            self.optimizer().init(params),
            self.balance.start(),
            jnp.zeros((), jnp.int32),
        )

    def replicated(self, tree: PyTree) -> PyTree:
        """The tree on every device of the mesh."""
        return tree if self.mesh is None else jax.device_put(tree, NamedSharding(self.mesh, P()))

    def losses(self, params: PyTree, step: Any, objective: Any, sample: Any) -> Losses:
        """Mean losses of the batch of one step."""
        settings = self.settings
        key = jax.random.fold_in(derive_key(settings.seed, "training"), step)
        for_data, for_target, for_losses = jax.random.split(key, 3)
        inputs, labels = sample(for_data, settings.batch)[:2]
        if self.mesh is not None:
            rows = NamedSharding(self.mesh, P("examples"))
            inputs, labels = jax.lax.with_sharding_constraint((inputs, labels), rows)
        if settings.target == "fixed":
            targets = jnp.full((settings.batch,), self.fixed_target, jnp.int32)
        else:
            outputs = jax.vmap(objective.outputs)(inputs)
            targets = jnp.argmax(outputs, -1).astype(jnp.int32)
            if settings.target == "random":
                targets = jax.random.randint(for_target, targets.shape, 0, outputs.shape[-1])
        keys = jax.random.split(for_losses, settings.batch)
        network = nnx.merge(self.graphdef, params)
        return objective(network, inputs, labels, targets, keys)

    def names(self, state: State, objective: Any, sample: Any) -> list[str]:
        """The names of the losses."""
        return list(jax.eval_shape(self.losses, state.params, state.step, objective, sample))

    def compiled(self) -> Callable[[State, Any, Any], tuple[State, Losses]]:
        """``block(state, objective, sample)``: the state after a block, and all its losses."""
        return jax.jit(self._block, donate_argnums=0)

    def _block(self, state: State, objective: Any, sample: Any) -> tuple[State, Losses]:
        optimizer, balance = self.optimizer(), self.balance

        def total(params: PyTree, state: State) -> tuple[Any, Losses]:
            losses = self.losses(params, state.step, objective, sample)
            return balance.total(losses, state.multipliers), losses

        def step(state: State, _: None) -> tuple[State, Losses]:
            slopes, losses = jax.grad(total, has_aux=True)(state.params, state)
            updates, moments = optimizer.update(slopes, state.moments, state.params)
            params = optax.apply_updates(state.params, updates)
            # a short memory at first, so that the average is not of the random start
            decay = jnp.minimum(self.settings.ema, (1.0 + state.step) / (10.0 + state.step))
            average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.average, params)
            multipliers = balance.update(losses, state.multipliers)
            return State(params, average, moments, multipliers, state.step + 1), losses

        return jax.lax.scan(step, state, length=self.settings.block)
