"""Checks of what a person passes: names of modalities, and data that fit them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.numerics import is_inexact, is_traced
from mmx_jax.typing import RESERVED, Inputs

__all__ = ["check_inputs", "check_modalities"]


def check_modalities(modalities: dict[str, Modality]) -> None:
    """Raises where names are reserved, none is given, or marginal draws differ in number."""
    if not modalities:
        raise InputError("modalities", "is empty", "give at least one")
    for name in modalities:
        if not isinstance(name, str) or not name or name in RESERVED or "<-" in name or "/" in name:
            raise InputError(
                "modalities",
                f"has the name {name!r}",
                "use a text that is not 'joint' and holds neither '<-' nor '/'",
            )
    draws = {m.draws for m in modalities.values() if m.draws}
    if len(draws) > 1:
        raise InputError(
            "modalities", f"have {sorted(draws)} marginal draws", "use one number for all"
        )


def check_inputs(modalities: dict[str, Modality], inputs: Inputs, batched: bool = False) -> None:
    """Raises one clear error where inputs don't fit their modalities.

    Args:
      modalities: by name.
      inputs: of one example, or of a batch with a leading axis.
      batched: whether there is a leading axis of examples.

    Raises:
      InputError: a missing or extra modality; another structure, shape or kind of dtype; NaN or
        infinite entries (checked on concrete arrays).
    """
    check_modalities(modalities)
    missing, extra = sorted(set(modalities) - set(inputs)), sorted(set(inputs) - set(modalities))
    if missing:
        raise InputError(
            "inputs", f"lacks {', '.join(missing)}", f"give {', '.join(sorted(modalities))}"
        )
    if extra:
        raise InputError(
            "inputs", f"has the unknown {', '.join(extra)}", f"give {', '.join(sorted(modalities))}"
        )
    for name, modality in modalities.items():
        _check_data(f"inputs[{name!r}]", modality, inputs[name], int(batched))


def _check_data(argument: str, modality: Modality, data: PyTree, skip: int) -> None:
    expected = jax.tree.structure(modality.reference)
    if jax.tree.structure(data) != expected:
        raise InputError(
            argument, f"has the structure {jax.tree.structure(data)}", f"give {expected}"
        )
    groups = jax.tree.leaves(modality.groups, is_leaf=lambda x: isinstance(x, tuple))
    rows = zip(
        jax.tree.leaves_with_path(data),
        jax.tree.leaves(modality.reference_at(0)),
        groups,
        strict=True,
    )
    for (path, leaf), reference, where in rows:
        label = argument + jax.tree_util.keystr(path)
        if not hasattr(leaf, "shape") or np.ndim(leaf) < skip:
            raise InputError(label, f"is {type(leaf).__name__}", "give an array")
        shape = tuple(leaf.shape[skip:])
        for name, other in (("reference", reference.shape), *(("groups", g.shape) for g in where)):
            try:
                fits = np.broadcast_shapes(shape, other) == shape
            except ValueError:
                fits = False
            known = name == "reference" and other != ()
            if not fits or (known and shape != tuple(other)):
                need = "reference needs" if known else f"{name} need"
                raise InputError(label, f"has shape {shape}", f"its {need} {tuple(other)}")
        if not (is_inexact(leaf) or jnp.issubdtype(leaf.dtype, jnp.integer) or leaf.dtype == bool):
            raise InputError(label, f"has dtype {leaf.dtype}", "use real numbers or integers")
        whole = not is_inexact(reference)
        if reference.shape != () and whole == is_inexact(leaf):
            raise InputError(
                label,
                f"has dtype {leaf.dtype}",
                f"use {'integers' if whole else 'real numbers'}, as its reference",
            )
        if modality.kind == "token id" and not is_traced(leaf):
            size = modality.layout[1]
            if np.min(leaf, initial=0) < 0 or np.max(leaf, initial=0) >= size:
                raise InputError(
                    label,
                    f"holds ids {np.min(leaf)} to {np.max(leaf)}",
                    f"use 0 to {size - 1}, the vocabulary",
                )
        if is_inexact(leaf) and not is_traced(leaf) and not np.all(np.isfinite(leaf)):
            raise InputError(label, "holds NaN or infinite entries", "clean the data first")
