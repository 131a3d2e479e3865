"""Semantic-preserving moves: changes of an input that should not change its meaning.

A move returns the changed data and its action on the units: after it, unit ``position[u]`` holds
what unit ``u`` held, so ``scores_after[position]`` is comparable with ``scores_before``. Moves are
frozen, hashable settings; whether a move keeps the *model's* output is checked where it is used.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from mmx_jax.numerics import is_inexact
from mmx_jax.typing import PRNGKey

__all__ = ["Gain", "Move", "Noise", "Offset", "Relabel", "Roll", "Synonyms"]


@runtime_checkable
class Move(Protocol):
    """Changes the data of one modality and says where each unit went."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    def __call__(
        self, key: PRNGKey, data: PyTree, units: int
    ) -> tuple[PyTree, Int[Array, "units"]]:
        """The changed data and the new position of each unit."""
        ...


def _on_real(fn: Any, data: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: fn(leaf) if is_inexact(leaf) else leaf, data)


def _spread(leaf: Array) -> Array:
    """The size of typical entries, so that a strength means the same on any scale."""
    return jnp.sqrt(jnp.mean(leaf**2))


@dataclasses.dataclass(frozen=True)
class Noise:
    """Gaussian noise of ``strength`` times the root mean square of the data."""

    strength: float = 0.02
    name: str = "noise"

    def __call__(self, key: PRNGKey, data: PyTree, units: int) -> tuple[PyTree, Array]:
        """Adds the noise; every unit stays where it is."""
        real = [leaf for leaf in jax.tree.leaves(data) if is_inexact(leaf)]
        keys = iter(jax.random.split(key, max(len(real), 1)))

        def shake(leaf: Array) -> Array:
            return leaf + self.strength * _spread(leaf) * jax.random.normal(
                next(keys), leaf.shape, leaf.dtype
            )

        return _on_real(shake, data), jnp.arange(units)


@dataclasses.dataclass(frozen=True)
class Gain:
    """Contrast or loudness: real data times ``1 + U(-strength, strength)``."""

    strength: float = 0.05
    name: str = "gain"

    def __call__(self, key: PRNGKey, data: PyTree, units: int) -> tuple[PyTree, Array]:
        """Scales the data; every unit stays where it is."""
        factor = 1 + jax.random.uniform(key, (), jnp.float32, -self.strength, self.strength)
        return _on_real(lambda leaf: (leaf * factor).astype(leaf.dtype), data), jnp.arange(units)


@dataclasses.dataclass(frozen=True)
class Offset:
    """Brightness: one constant of ``U(-strength, strength)`` root mean squares on every entry."""

    strength: float = 0.05
    name: str = "brightness"

    def __call__(self, key: PRNGKey, data: PyTree, units: int) -> tuple[PyTree, Array]:
        """Shifts the values; every unit stays where it is."""
        amount = jax.random.uniform(key, (), jnp.float32, -self.strength, self.strength)
        return _on_real(
            lambda leaf: (leaf + amount * _spread(leaf)).astype(leaf.dtype), data
        ), jnp.arange(units)


@dataclasses.dataclass(frozen=True)
class Roll:
    """Shifts a grid by whole units, wrapping around: an image by a patch, a sound by a frame.

    Attributes:
      grid: units per axis, for example (4, 4).
      size: entries per unit and axis, for example (2, 2).
    """

    grid: tuple[int, ...]
    size: tuple[int, ...]
    name: str = "shift"

    def __call__(self, key: PRNGKey, data: PyTree, units: int) -> tuple[PyTree, Array]:
        """Rolls by one unit along an axis and direction drawn from ``key``."""
        choices = [(axis, step) for axis in range(len(self.grid)) for step in (-1, 1)]
        index = jnp.arange(units).reshape(self.grid)

        def rolled(axis: int, step: int) -> Any:
            def roll(_: None) -> tuple[PyTree, Array]:
                moved = jax.tree.map(
                    lambda leaf: jnp.roll(leaf, step * self.size[axis], axis), data
                )
                return moved, jnp.roll(index, -step, axis).reshape(-1)

            return roll

        pick = jax.random.randint(key, (), 0, len(choices))
        return jax.lax.switch(pick, [rolled(*choice) for choice in choices], None)


@dataclasses.dataclass(frozen=True)
class Synonyms:
    """Replaces token ids by ids of the same meaning.

    Attributes:
      table: for each id of the vocabulary, the id of a synonym (itself where there is none).
      rate: the share of tokens that is replaced.
    """

    table: tuple[int, ...]
    rate: float = 0.5
    name: str = "synonym"

    def __call__(self, key: PRNGKey, data: Array, units: int) -> tuple[Array, Array]:
        """Swaps words; every unit stays where it is."""
        swap = jax.random.bernoulli(key, self.rate, data.shape)
        return jnp.where(swap, jnp.asarray(self.table, data.dtype)[data], data), jnp.arange(units)


@dataclasses.dataclass(frozen=True)
class Relabel:
    """Permutes the nodes of a graph: the same graph in another order."""

    name: str = "relabel"

    def __call__(
        self, key: PRNGKey, data: dict[str, Array], units: int
    ) -> tuple[dict[str, Array], Array]:
        """Node u becomes node ``position[u]``."""
        order = jax.random.permutation(key, units)  # new node i is old node order[i]
        adjacency = data["adjacency"][order][:, order]
        moved = data | {"features": data["features"][order], "adjacency": adjacency}
        return moved, jnp.argsort(order)
