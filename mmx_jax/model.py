"""Models: callable pytrees from one example's inputs to its outputs, with weights as leaves.

``as_model`` wraps a flax NNX module or a plain function. ``SplitModel`` tells which work belongs
to which modality, so that coalitions can share it. *Edit sites* read or replace internal
activations through one protocol: a model with sites takes ``site=callback`` and passes every named
activation through ``callback(name, value)``.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, PyTree

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.numerics import is_traced
from mmx_jax.typing import ArrayLike, Inputs, Outputs, Target, record, static

__all__ = [
    "IDENTITY",
    "LOG_ODDS",
    "SOFTMAX",
    "FunctionModel",
    "Link",
    "ModuleModel",
    "Site",
    "SplitModel",
    "as_callable",
    "as_model",
    "check_model",
    "edit",
    "ignore",
    "link_of",
    "pick",
    "read",
    "sites",
]

Site = Callable[[str, Array], Array]
"""Sees a named activation and returns what the model goes on with."""


def ignore(name: str, value: Array) -> Array:
    """The site callback that changes nothing."""
    del name
    return value


@dataclasses.dataclass(frozen=True)
class Link:
    """How raw outputs become the outputs that are explained; part of the model, named in reports.

    Attributes:
      name: ``"identity"``, ``"softmax"`` (probabilities) or ``"log-odds"``
        (``log p_k / (1 - p_k)`` of the softmax probabilities).
    """

    name: str

    def __post_init__(self) -> None:
        """Refuses unknown names."""
        if self.name not in ("identity", "softmax", "log-odds"):
            raise UnknownNameError("link", self.name, ["identity", "softmax", "log-odds"])

    def __call__(self, raw: Any) -> Any:
        """Applies the link to the last axis of ``[..., outputs]``.

        What is no such array passes the identity, for :func:`check_model` to name.
        """
        if self.name == "softmax":
            return jax.nn.softmax(raw, -1)
        if self.name == "log-odds":
            n = raw.shape[-1]
            others = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, raw[..., None, :])
            return raw - jax.nn.logsumexp(others, -1)
        return raw


IDENTITY, SOFTMAX, LOG_ODDS = Link("identity"), Link("softmax"), Link("log-odds")


def _as_link(link: str | Link) -> Link:
    return link if isinstance(link, Link) else Link(link)


@record
class FunctionModel:
    """A plain function with its arrays as leaves.

    Attributes:
      fn: a callable pytree ``inputs -> raw outputs``.
      link: applied to the raw outputs.
    """

    fn: Callable[..., Any]
    link: Link = static(default=IDENTITY)

    def __call__(self, inputs: Inputs, site: Site | None = None) -> Any:
        """Outputs ``[outputs]`` of one example."""
        raw = self.fn(inputs) if site is None else self.fn(inputs, site=site)
        return self.link(raw)


@record
class ModuleModel:
    """A flax NNX module in evaluation mode: its structure is static, its state are leaves.

    Attributes:
      state: the module's arrays, as pure leaves (``nnx.as_pure``).
      graphdef: its structure.
      link: applied to the raw outputs.
    """

    state: PyTree
    graphdef: Any = static()
    link: Link = static(default=IDENTITY)

    def __call__(self, inputs: Any, site: Site | None = None) -> Array:
        """Outputs of one example (or codes, where the module is an encoder)."""
        module = nnx.merge(self.graphdef, self.state)
        raw = module(inputs) if site is None else module(inputs, site=site)
        return self.link(raw)

    def module(self) -> nnx.Module:
        """The module itself, a fresh copy."""
        return nnx.merge(self.graphdef, self.state)


@record
class SplitModel:
    """Says which work belongs to which modality: ``link(fuse({m: encoders[m](x_m)}))``.

    Coalitions of modalities then cost one encoding per modality, one per reference draw, and one
    cheap fusion each, instead of a whole model call each.

    Attributes:
      encoders: modality name to a callable pytree ``x_m -> code``.
      fuse: a callable pytree ``{m: code} -> raw outputs``.
      link: applied to the raw outputs.
    """

    encoders: dict[str, Callable[..., Any]]
    fuse: Callable[..., Any]
    link: Link = static(default=IDENTITY)

    def __call__(self, inputs: Inputs, site: Site | None = None) -> Any:
        """Outputs ``[outputs]`` of one example."""
        codes = {name: self.encode(name, inputs[name], site) for name in sorted(self.encoders)}
        return self.decode(codes, site)

    def encode(self, name: str, data: PyTree, site: Site | None = None) -> PyTree:
        """The code of one modality."""
        return self.encoders[name](data) if site is None else self.encoders[name](data, site=site)

    def decode(self, codes: dict[str, PyTree], site: Site | None = None) -> Any:
        """The outputs of a set of codes."""
        return self.link(self.fuse(codes) if site is None else self.fuse(codes, site=site))


def as_callable(fn: Any) -> Any:
    """A callable pytree of a module (in evaluation mode) or a function."""
    if isinstance(fn, nnx.Module):
        graphdef, state = nnx.split(fn)
        # eval() changes the module in place: leave the user's alone
        copy = nnx.merge(graphdef, state)
        copy.eval()
        graphdef, state = nnx.split(copy)
        return ModuleModel(nnx.as_pure(state), graphdef)
    if not callable(fn):
        raise InputError(
            "model", f"is {type(fn).__name__}", "give a flax NNX module or a function of inputs"
        )
    return jax.tree_util.Partial(fn) if jax.tree_util.all_leaves([fn]) else fn


def as_model(
    module_or_function: Any, link: str | Link | None = None
) -> FunctionModel | ModuleModel | SplitModel:
    """Makes a model of a flax NNX module or a plain function of one example's inputs.

    Args:
      module_or_function: a module (it is copied and put into evaluation mode), a function, a
        ``jax.tree_util.Partial`` whose arrays become leaves, or a model of this package.
      link: ``"identity"``, ``"softmax"`` or ``"log-odds"``; by default that of a model of this
        package, and the identity of anything else.

    Returns:
      a callable pytree ``model(inputs) -> [outputs]``.

    >>> model = as_model(lambda inputs: inputs["x"] * jnp.array([1.0, 2.0]), link="softmax")
    >>> model({"x": jnp.zeros(2)}).tolist()
    [0.5, 0.5]
    """
    if isinstance(module_or_function, FunctionModel | ModuleModel | SplitModel):
        model = module_or_function
        return model if link is None else dataclasses.replace(model, link=_as_link(link))
    link = "identity" if link is None else link
    fn = as_callable(module_or_function)
    if isinstance(fn, ModuleModel):
        return dataclasses.replace(fn, link=_as_link(link))
    return FunctionModel(fn, _as_link(link))


def link_of(model: Any) -> str:
    """The name of a model's link; ``"identity"`` where it states none."""
    return getattr(getattr(model, "link", None), "name", "identity")


def _takes_site(fn: Any) -> bool:
    target = fn
    if isinstance(fn, FunctionModel):
        target = fn.fn.func if isinstance(fn.fn, jax.tree_util.Partial) else fn.fn
    elif isinstance(fn, ModuleModel):
        target = fn.module()
    elif isinstance(fn, SplitModel):
        return all(_takes_site(part) for part in (*fn.encoders.values(), fn.fuse))
    elif isinstance(fn, jax.tree_util.Partial):
        target = fn.func
    return "site" in inspect.signature(target).parameters


def _call(model: Any, inputs: Inputs, site: Site) -> Outputs:
    if not _takes_site(model):
        raise InputError(
            "model", "offers no edit sites", "let it take site= and call site(name, value)"
        )
    return model(inputs, site=site)


def read(model: Any, inputs: Inputs) -> tuple[Outputs, dict[str, Array]]:
    """Outputs and every named activation of one example."""
    seen: dict[str, Array] = {}

    def note(name: str, value: Array) -> Array:
        if name in seen:
            raise InputError("model", f"has two sites named {name!r}", "name each site once")
        seen[name] = value
        return value

    return _call(model, inputs, note), seen


def sites(model: Any, inputs: Inputs) -> dict[str, jax.ShapeDtypeStruct]:
    """The names, shapes and dtypes of a model's edit sites."""
    return jax.eval_shape(lambda m, x: read(m, x)[1], model, inputs)


def edit(
    model: Any, inputs: Inputs, edits: Mapping[str, ArrayLike | float | Callable[[Array], Array]]
) -> Outputs:
    """Outputs with activations replaced: by an array, or by a function of the activation.

    Raises:
      UnknownNameError: a site that the model does not have.
    """
    used: set[str] = set()

    def change(name: str, value: Array) -> Array:
        if name not in edits:
            return value
        used.add(name)
        new = edits[name]
        out = new(value) if callable(new) else jnp.asarray(new, value.dtype)
        if jnp.shape(out) != value.shape:
            raise InputError(
                f"edits[{name!r}]", f"has shape {jnp.shape(out)}", f"give {value.shape}"
            )
        return out

    outputs = _call(model, inputs, change)
    unknown = sorted(set(edits) - used)
    if unknown:
        raise UnknownNameError("site", unknown[0], sites(model, inputs))
    return outputs


@jax.jit
def _outputs(model: Any, inputs: Inputs) -> Any:
    return model(inputs)


def check_model(model: Any, inputs: Inputs, target: Target | np.ndarray | None = None) -> int:
    """Raises where a model does not map one example to real outputs ``[outputs]``.

    Args:
      model: the model.
      inputs: of one example.
      target: one or several targets to be checked against the number of outputs.

    Returns:
      the number of outputs.
    """
    if not callable(model):
        raise InputError("model", f"is {type(model).__name__}", "wrap it with mmx_jax.as_model")
    shape: Any = jax.eval_shape(model, inputs)
    if not hasattr(shape, "shape") or len(shape.shape) != 1:
        got = getattr(shape, "shape", type(shape).__name__)
        raise InputError(
            "model",
            f"returns {got} for one example",
            "return a vector of outputs, without a batch axis",
        )
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        raise InputError("model", f"returns {shape.dtype}", "return real numbers")
    if target is not None:
        check_target(target, shape.shape[0])
    outputs: Any = _outputs(as_callable(model), inputs)
    if not is_traced(outputs) and not np.all(np.isfinite(outputs)):
        raise InputError("model", "returns NaN or infinite outputs", "check its weights and inputs")
    return shape.shape[0]


def pick(outputs: Any, target: Target) -> Array:
    """``outputs[target]``, where they are a vector and a target known while tracing is one of them.

    Raises:
      InputError: outputs of another rank, or a target out of range.
    """
    if jnp.ndim(outputs) != 1:
        raise InputError(
            "model",
            f"returns shape {jnp.shape(outputs)} for one example",
            "return a vector of outputs, without a batch axis",
        )
    check_target(target, jnp.shape(outputs)[0])
    return outputs[target]


def check_target(target: Target | np.ndarray, outputs: int) -> None:
    """Raises where targets are not integers from 0 to ``outputs - 1``, unless they are traced."""
    if is_traced(target):
        return
    values = np.asarray(target)
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError("target", f"has dtype {values.dtype}", "use integers")
    if values.size and (values.min() < 0 or values.max() >= outputs):
        raise InputError(
            "target", f"is {values.min()} to {values.max()}", f"use 0 to {outputs - 1}"
        )
