"""What an explainer was trained on, by which another model or modality set is told from it.

Weights are compared to the bit, and where they differ by what rounding may make of the same ones
(another device, another compiler): the norm of each array and its product with a drawn one. What a
function does with none is told by its answers: outputs on a few inputs that are drawn anew, from
the same key, within the range of the held-out data.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.errors import InputError
from mmx_jax.learn.checkpoint import digest
from mmx_jax.mapping import map_examples
from mmx_jax.modality import Modality
from mmx_jax.model import as_callable
from mmx_jax.numerics import is_inexact, is_key
from mmx_jax.typing import Inputs, Model

__all__ = ["check_origin", "describe_modalities", "describe_model"]

DRAWS = 16
ROUNDING = 1e-5
"""Of the norm of an array of weights."""
TOLERANCE = 0.01
"""Of the range R; devices and precisions differ by less, other functions by more somewhere."""


def describe_modalities(modalities: dict[str, Modality]) -> dict[str, Any]:
    """Kind, units and shapes of each modality, as plain JSON."""
    return {
        name: {
            "kind": m.kind,
            "units": m.units,
            "shapes": [list(np.shape(x)) for x in jax.tree.leaves(m.reference_at(0))],
        }
        for name, m in sorted(modalities.items())
    }


def describe_model(model: Model, held_out: Inputs) -> dict[str, Any]:
    """The digest of a model's weights, and its answers on drawn inputs, as plain JSON.

    Args:
      model: from inputs to outputs.
      held_out: inputs ``[examples, ...]`` that tell shapes and ranges.
    """
    leaves = [np.asarray(x) for x in jax.tree.leaves(held_out)]
    drawn = {
        "shapes": [list(x.shape[1:]) for x in leaves],
        "dtypes": [str(x.dtype) for x in leaves],
        "ranges": [[x.min().item(), x.max().item()] if x.size else [0, 0] for x in leaves],
    }
    answers = _answers(model, jax.tree.structure(held_out), drawn)
    return {
        "weights": digest(model),
        "sketch": _sketch(model),
        "drawn": drawn,
        "answers": np.round(answers, 6).tolist(),
    }


def check_origin(
    about: dict[str, Any], modalities: dict[str, Modality], model: Model | None, where: Any
) -> None:
    """Raises where a run was trained on another model or for other modalities.

    Args:
      about: what the run's configuration says of them.
      modalities: that are explained.
      model: that is explained; None checks the modalities alone.
      where: the run's directory, for the message.

    Raises:
      InputError: the modalities or the model are others.
    """
    known = about["modalities"]
    if known != describe_modalities(modalities):
        raise InputError(
            "modalities",
            f"are {describe_modalities(modalities)}, and {where} was trained for {known}",
            "load it with the modalities it was trained for",
        )
    if model is None:
        return
    said = about["model"]
    other = None
    fn = as_callable(model)
    if digest(fn) != said["weights"] and not _near(_sketch(fn), said.get("sketch")):
        other = "its weights differ"
    else:
        others = dict.fromkeys(about.get("extra", ()), 0)
        tree = jax.tree.structure({n: m.reference_at(0) for n, m in modalities.items()} | others)
        answers, known = _answers(fn, tree, said["drawn"]), np.asarray(said["answers"])
        apart = np.abs(answers - known) if answers.shape == known.shape else np.zeros(1)
        if answers.shape != known.shape:
            other = f"it has {answers.shape[-1]} outputs and not {known.shape[-1]}"
        elif apart.max() > TOLERANCE * about["spread"]:
            share = apart.max() / max(about["spread"], 1e-12)
            other = f"its outputs differ by up to {share:.2g} of their range"
    if other:
        task = f" (of the task {about['task']})" if about.get("task") else ""
        raise InputError(
            "model",
            f"is not the one that {where} was trained on{task}: {other}",
            "explain the model it was trained on, or train an explainer of this one",
        )


def _sketch(model: Model) -> list[list[float]]:
    """Per array its norm, and its product with a drawn array of norm about 1."""
    out = []
    for i, leaf in enumerate(jax.tree.leaves(model)):
        plain = jax.random.key_data(leaf) if is_key(leaf) else leaf
        flat = np.ravel(np.asarray(plain, np.float64))
        drawn = np.random.default_rng(i).normal(size=flat.size) / max(1, flat.size) ** 0.5
        out.append([float(np.linalg.norm(flat)), float(flat @ drawn)])
    return out


def _near(one: list[list[float]], other: list[list[float]] | None) -> bool:
    if other is None or len(one) != len(other):
        return False
    pairs = zip(one, other, strict=True)
    return all(max(abs(a - c), abs(b - d)) <= ROUNDING * max(a, 1e-12) for (a, b), (c, d) in pairs)


def _answers(model: Model, tree: Any, drawn: dict[str, Any]) -> Float[np.ndarray, "draws outputs"]:
    """Outputs on inputs drawn uniformly within the ranges; what is not finite counts as 0."""
    keys = jax.random.split(jax.random.key(0), max(1, len(drawn["shapes"])))

    def leaf(key: Array, shape: list[int], dtype: str, ends: list[Any]) -> Array:
        shape_, kept = (DRAWS, *shape), jax.dtypes.canonicalize_dtype(dtype)
        if is_inexact(np.zeros(0, dtype)):
            low, high = ends
            return jax.random.uniform(key, shape_, jnp.float32, low, high).astype(kept)
        return jax.random.randint(key, shape_, int(ends[0]), int(ends[1]) + 1).astype(kept)

    rows = map(leaf, keys, drawn["shapes"], drawn["dtypes"], drawn["ranges"])
    outputs = map_examples(model, jax.tree.unflatten(tree, rows))
    return np.nan_to_num(np.asarray(outputs, np.float64), posinf=0.0, neginf=0.0)
