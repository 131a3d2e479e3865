"""EMAP: the best additive approximation of a model of two inputs, on a sample.

Hessel and Lee, *Does my multimodal model learn cross-modal interactions?* (EMNLP 2020). The gap
between the metric of a model and that of its projection is what its interactions are worth.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.mapping import Progress, map_examples, map_stacked
from mmx_jax.model import Link, SplitModel, as_model
from mmx_jax.numerics import is_traced
from mmx_jax.typing import ArrayLike, Inputs, Model

__all__ = ["all_pairs", "emap"]


def emap(outputs: Float[ArrayLike, "..."]) -> Float[ArrayLike, "..."]:
    """Empirical multimodally-additive projection of a model's outputs on a sample.

    ``emap_i = mean_j f(a_i, b_j) + mean_j f(a_j, b_i) - mean_jk f(a_j, b_k)``.

    Args:
      outputs: ``f(a_i, b_j)`` for all pairs of a sample of N, ``[N, N, K]`` (or ``[N, N]``), from
        :func:`all_pairs`. Project raw outputs (logits), not classes.

    Returns:
      the projection at the sample's own pairs, ``[N, K]`` (or ``[N]``).

    Raises:
      InputError: another shape, or NaN.

    >>> table = np.array([[-1.3, 0.3, -0.2], [0.8, 3.0, 1.1], [1.1, -0.1, 0.7]])
    >>> emap(table).round(6).tolist()
    [-0.8, 2.1, 0.5]
    """
    shape = np.shape(outputs)
    if len(shape) not in (2, 3) or shape[0] != shape[1] or not shape[0]:
        raise InputError("outputs", f"has shape {shape}", "give [N, N, K], all pairs of a sample")
    if not is_traced(outputs) and not np.all(np.isfinite(outputs)):
        raise InputError("outputs", "holds NaN or infinite entries", "check the model's outputs")
    table: Any = outputs if isinstance(outputs, jax.Array) else np.asarray(outputs, np.float64)
    return table.mean(1) + table.mean(0) - table.mean((0, 1))


def all_pairs(
    model: Model,
    batch: Inputs,
    first: str | Sequence[str],
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    link: str | Link | None = None,
) -> Float[np.ndarray, "N N K"]:
    """Outputs of a model on all pairs of a sample: input i of ``first``, input j of the rest.

    Args:
      model: the model.
      batch: N examples.
      first: the name or names of the modalities on one side; all others are on the other.
      chunk: rows of N model evaluations per call.
      mesh, progress: as in :func:`~mmx_jax.map_examples`.
      link: the scale; the model's own by default. EMAP projects raw outputs: ``"identity"``.

    Returns:
      ``[N, N, K]``. Cost: N**2 model evaluations; with a ``SplitModel`` N encodings per modality
      and N**2 fusions.

    Raises:
      UnknownNameError, InputError: names that the batch lacks, or nothing on the other side.
    """
    model = as_model(model, link)
    names = (first,) if isinstance(first, str) else tuple(first)
    for name in names:
        if name not in batch:
            raise UnknownNameError("modality", name, batch)
    if not names or len(set(names)) == len(batch):
        raise InputError(
            "first", f"is {names} of {sorted(batch)}", "leave something on either side"
        )
    row: Any = _row
    if isinstance(model, SplitModel):
        row = _fused_row
        batch = {
            n: map_examples(_encode, model.encoders[n], batch[n], in_axes=(None, 0), chunk=chunk)
            for n in sorted(batch)
        }
    rows = {n: batch[n] for n in names}
    columns = {n: batch[n] for n in batch if n not in names}
    return map_examples(
        row,
        model,
        columns,
        rows,
        in_axes=(None, None, 0),
        chunk=16 if chunk is None else chunk,
        mesh=mesh,
        progress=progress,
    )


def _encode(encoder: Any, data: PyTree) -> PyTree:
    return encoder(data)


def _row(model: Model, columns: Inputs, row: Inputs) -> Array:
    return map_stacked(lambda column: model(row | column), columns)


def _fused_row(model: SplitModel, columns: dict[str, Any], row: dict[str, Any]) -> Array:
    return map_stacked(lambda column: model.decode(row | column), columns)
