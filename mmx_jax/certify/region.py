"""The set over which bounds hold: inputs as one real vector, and a product of balls around it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.certify.affine import Ball, Form
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.numerics import is_inexact, is_traced

__all__ = ["Region", "check_settings"]


def check_settings(memory: Any, least: int = 0, **counts: Any) -> None:
    """Raises where a count is no integer from ``least`` on, or the memory no positive number."""
    for name, value in counts.items():
        if not isinstance(value, int | np.integer) or value < least:
            raise InputError(name, f"is {value!r}", f"use a whole number, {least} or more")
    if not isinstance(memory, int | float | np.number) or not memory > 0:
        raise InputError("memory", f"is {memory!r}", "use a number of bytes above 0")


class Region:
    """One example's inputs, split into a real vector and the rest, with a radius per modality.

    Attributes:
      names: sorted modalities that hold real numbers.
      spans: their coordinates in the real vector.
      moving: the names whose radius is not the number 0.
      dim: coordinates in all.
    """

    def __init__(self, inputs: dict[str, Any], radius: Any, norm: float):
        if not isinstance(inputs, dict) or not inputs:
            raise InputError(
                "inputs", f"is {type(inputs).__name__}", "give {modality: arrays} of one example"
            )
        if not isinstance(norm, int | float | np.number) or norm not in (2, np.inf):
            raise InputError("norm", f"is {norm!r}", "use 2 or inf")
        for name, value in inputs.items():
            if not isinstance(name, str):
                raise InputError("inputs", f"has the key {name!r}", "name modalities by strings")
            for leaf in jax.tree.leaves(value):
                kind = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
                if kind.kind in "cOSU":
                    raise InputError(
                        f"inputs[{name!r}]", f"holds {type(leaf).__name__}", "pass real arrays"
                    )
        self.inputs = jax.tree.map(jnp.asarray, inputs)
        leaves, self._structure = jax.tree.flatten(self.inputs)
        self._leaves = leaves
        self._owner = [name for name in sorted(inputs) for _ in jax.tree.leaves(self.inputs[name])]
        self._real = [i for i, leaf in enumerate(leaves) if is_inexact(leaf)]
        for i in self._real:
            if not is_traced(leaves[i]) and not np.all(np.isfinite(leaves[i])):
                raise InputError(
                    f"inputs[{self._owner[i]!r}]", "holds NaN or infinity", "pass finite numbers"
                )
        self.names = sorted({self._owner[i] for i in self._real})
        if not self.names:
            raise InputError("inputs", "hold integers only", "bounds need real inputs")
        if not any(leaves[i].size for i in self._real):
            raise InputError("inputs", "hold no number", "pass arrays that are not empty")
        self.radius = self._radii(radius, sorted(inputs))
        ends = np.cumsum([0] + [leaves[i].size for i in self._real])
        self._places = {
            i: slice(a, b) for i, a, b in zip(self._real, ends[:-1], ends[1:], strict=True)
        }
        self.spans = {}
        for name in self.names:
            mine = [self._places[i] for i in self._real if self._owner[i] == name]
            self.spans[name] = slice(int(mine[0].start), int(mine[-1].stop))
        self.dim = int(ends[-1])
        self.moving = [
            n for n in self.names if is_traced(self.radius[n]) or float(np.max(self.radius[n])) > 0
        ]
        sizes = tuple(self.spans[n].stop - self.spans[n].start for n in self.moving)
        self.ball = Ball(sizes, float(norm))

    def _radii(self, radius: Any, known: list[str]) -> dict[str, Any]:
        given = radius if isinstance(radius, dict) else {n: radius for n in self.names}
        for name, value in given.items():
            if name not in known:
                raise UnknownNameError("radius for modality", name, known)
            if is_traced(value):
                continue
            number = isinstance(value, int | float | np.number) or hasattr(value, "dtype")
            if not number or np.ndim(value) or not np.isfinite(value) or value < 0:
                raise InputError(
                    f"radius[{name!r}]", f"is {value!r}", "use a finite number, 0 or above"
                )
            if value > 0 and name not in self.names:
                raise InputError(
                    f"radius[{name!r}]",
                    f"is {value} but the modality holds integers only",
                    "use 0, or certify a function of its embedding",
                )
        return {name: given.get(name, 0.0) for name in self.names}

    def vector(self) -> Float[Array, "dim"]:
        """The real inputs side by side, at the caller's precision."""
        return jnp.concatenate([jnp.ravel(self._leaves[i]) for i in self._real])

    def build(self, vector: Float[Array, "dim"]) -> dict[str, Any]:
        """Inputs from a real vector; the inverse of :meth:`vector`."""
        leaves = list(self._leaves)
        for i, place in self._places.items():
            old = leaves[i]
            leaves[i] = vector[place].reshape(old.shape).astype(old.dtype)
        return jax.tree.unflatten(self._structure, leaves)

    def scales(self) -> Float[Array, "dim"]:
        """The radius of each coordinate's modality."""
        parts = [
            jnp.full(self.spans[n].stop - self.spans[n].start, self.radius[n], jnp.float64)
            for n in self.names
        ]
        return jnp.concatenate(parts)

    def form(self, degree: int) -> Form:
        """The real vector as a form: ``x0 + radius u``."""
        center = self.vector().astype(jnp.float64)
        scales = self.scales()
        err = jnp.stack([jnp.zeros_like(center), jnp.abs(center) + scales, scales])
        rows = jnp.stack([center, center])
        if degree == 0 or not self.moving:
            wide = err.at[0].set(scales)
            return Form(rows, wide)
        start, lin = 0, jnp.zeros((self.ball.dim, self.dim))
        for name in self.moving:
            span = self.spans[name]
            size = span.stop - span.start
            block = jnp.diag(scales[span])
            lin = lin.at[start : start + size, span].set(block)
            start += size
        return Form(jnp.concatenate([rows, lin]), err, 1, self.ball.dim, 0)
