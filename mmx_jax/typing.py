"""The words that the whole package speaks: types, protocols, and frozen pytree records.

One example at a time, no batch axis; ``jax.vmap`` batches. Player m is the m-th *sorted*
modality name everywhere, because ``jit`` returns dictionaries sorted.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, dataclass_transform, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

__all__ = [
    "RESERVED",
    "ArrayLike",
    "Explainer",
    "Gates",
    "Inputs",
    "Intervention",
    "Model",
    "Outputs",
    "PRNGKey",
    "Scores",
    "Target",
    "array_field",
    "record",
    "static",
]

Inputs = dict[str, Any]
"""Modality name to a pytree of arrays, for example ``{"image": [8, 8], "note": [6]}``."""

if TYPE_CHECKING:
    Scores = dict[str, Array]
    Gates = dict[str, Array]
else:  # a dict annotation would check one entry only
    Scores = PyTree[Float[Array, "?units"], "T"]
    """Modality name to one score per unit."""

    Gates = PyTree[Float[Array, "?units"] | Bool[Array, "?units"], "T"]
    """The structure of scores. 1 leaves a unit as it is, 0 replaces it by its reference."""

ArrayLike = Array | np.ndarray
"""What functions on plain tables take: JAX or NumPy arrays."""

Outputs = Float[Array, "outputs"]
Target = Int[Array, ""] | int
PRNGKey = Key[Array, ""]

RESERVED = ("joint",)
"""Names no modality may carry; nor may a name contain ``<-`` or ``/``."""


@runtime_checkable
class Model(Protocol):
    """A callable pytree from the inputs of one example to its outputs (after the link)."""

    def __call__(self, inputs: Inputs, /) -> Outputs:
        """Outputs ``[outputs]`` of one example."""
        ...


@runtime_checkable
class Explainer(Protocol):
    """A callable pytree that scores every unit of one example.

    Deterministic explainers ignore ``key``; samplers refuse ``None``.
    """

    @property
    def evaluations(self) -> int:
        """The number of model calls that one explanation makes (a gradient counts as one)."""
        ...

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None, /
    ) -> Scores:
        """Scores of the units of one example for one target."""
        ...


@runtime_checkable
class Intervention(Protocol):
    """What the desiderata know of units: how to gate them and how to ablate a group of them."""

    @property
    def units(self) -> dict[str, int]:
        """The number of units of each group, by group name."""
        ...

    @property
    def draws(self) -> int:
        """How many reference draws a value is averaged over (1 for a fixed reference)."""
        ...

    def __call__(self, model: Model, inputs: Inputs, gates: Gates, /) -> Outputs:
        """Outputs under gates, averaged over reference draws after the link."""
        ...

    def ablate(self, inputs: Inputs, name: str, /, draw: Any = 0) -> Inputs:
        """The inputs with group ``name`` replaced by its reference (draw ``draw`` of it)."""
        ...


T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A dataclass field that is a setting: hashable, part of the tree structure, never traced."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def array_field(**kwargs: Any) -> Any:
    """A dataclass field that is a leaf or a subtree (the default for fields of a record)."""
    return dataclasses.field(metadata={"static": False}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static, array_field))
def record(cls: type[T]) -> type[T]:
    """Makes a class a frozen dataclass and a pytree: fields are subtrees unless ``static()``.

    Unlike ``jax.tree_util.register_dataclass``, unflattening does not run ``__init__``, so
    ``__post_init__`` may validate what a person passed and never sees tracers or placeholders
    of a transformation.

    >>> import jax.numpy as jnp
    >>> @record
    ... class Scale:
    ...     factor: jax.Array
    ...     name: str = static(default="scale")
    ...     def __call__(self, x):
    ...         return self.factor * x
    >>> float(jax.jit(lambda scale, x: scale(x))(Scale(jnp.asarray(2.0)), 3.0))
    6.0
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    settings = tuple(f.name for f in fields if f.metadata.get("static", False))
    subtrees = tuple(f.name for f in fields if not f.metadata.get("static", False))

    def flatten_with_keys(obj: Any) -> Any:
        children = [(jax.tree_util.GetAttrKey(n), getattr(obj, n)) for n in subtrees]
        return children, tuple(getattr(obj, n) for n in settings)

    def flatten(obj: Any) -> Any:
        return [getattr(obj, n) for n in subtrees], tuple(getattr(obj, n) for n in settings)

    def unflatten(aux: Any, children: Any) -> Any:
        obj = object.__new__(cls)
        for n, v in zip(subtrees, children, strict=True):
            object.__setattr__(obj, n, v)
        for n, v in zip(settings, aux, strict=True):
            object.__setattr__(obj, n, v)
        return obj

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
