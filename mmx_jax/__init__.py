"""Explain multimodal models, judge the explanations, certify them, and learn better ones, in JAX.

Everything works on one example and is a pure function or a callable pytree; ``jax.vmap`` batches
and :func:`map_examples` runs batches of any size.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmx_jax.checks import check_inputs, check_modalities
from mmx_jax.errors import InputError, MmxError, UnknownNameError
from mmx_jax.intervention import FeatureGates, coalition_values, modality_effects, value, values
from mmx_jax.mapping import example_mesh, map_examples
from mmx_jax.modality import Modality
from mmx_jax.model import Link, SplitModel, as_model, check_model, edit, read, sites
from mmx_jax.numerics import derive_key, derive_keys
from mmx_jax.typing import Explainer, Intervention, Model, record, static

if TYPE_CHECKING:
    from mmx_jax import certify, desiderata, explainers, interactions, learn, models, tasks

__version__ = "0.1.0"

_WINGS = ("certify", "desiderata", "explainers", "interactions", "learn", "models", "tasks")


def __getattr__(name: str) -> Any:
    """Imports a wing when it is first used: ``mmx_jax.explainers`` needs no import of its own."""
    if name in _WINGS:
        return importlib.import_module(f"mmx_jax.{name}")
    raise AttributeError(f"module 'mmx_jax' has no attribute {name!r}")


__all__ = [
    "Explainer",
    "FeatureGates",
    "InputError",
    "Intervention",
    "Link",
    "MmxError",
    "Modality",
    "Model",
    "SplitModel",
    "UnknownNameError",
    "as_model",
    "certify",
    "check_inputs",
    "check_modalities",
    "check_model",
    "coalition_values",
    "derive_key",
    "derive_keys",
    "desiderata",
    "edit",
    "example_mesh",
    "explainers",
    "interactions",
    "learn",
    "map_examples",
    "modality_effects",
    "models",
    "read",
    "record",
    "sites",
    "static",
    "tasks",
    "value",
    "values",
]
