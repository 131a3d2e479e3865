"""SHAPE: what each modality, and their cooperation, adds to a model's performance.

Hu, Li and Zhou, *SHAPE: An Unified Approach to Evaluate the Contribution and Cooperation of
Individual Modalities* (IJCAI 2022). The players are modalities, the value of a coalition is the
model's performance on a labelled sample with the absent modalities replaced (by zeros in the
paper), and the value of nobody that of the majority vote.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Integer, Num

from mmx_jax.games import as_table, shapley_values
from mmx_jax.interactions.evaluate import coalition_outputs, macro_f1, majority
from mmx_jax.mapping import Progress
from mmx_jax.model import Link
from mmx_jax.typing import ArrayLike, Inputs, Intervention, Model, record

__all__ = ["Shape", "performance_game", "shape"]

Metric = Callable[[Any, Any], float]
"""``metric(predicted, labels)``, larger is better."""


@record
class Shape:
    """SHAPE scores, on the scale of the metric.

    Attributes:
      contribution: the Shapley value of each modality, ``[..., M]``; they sum to
        ``v(all) - v(none)``.
      cooperation: ``v(all) - v(none) - sum_m (v(m) - v(none))``, ``[...]``; negative where
        modalities repeat each other.
      relative: cooperation as a share of ``v(all) - v(none)``, NaN where that is 0.
    """

    contribution: Float[ArrayLike, "*batch M"]
    cooperation: Float[ArrayLike, "*batch"]
    relative: Float[ArrayLike, "*batch"]


def shape(performances: Num[ArrayLike, "*batch coalitions"]) -> Shape:
    """SHAPE scores of a table of performances.

    Args:
      performances: ``[..., 2**M]``, from :func:`performance_game`: the metric with the modalities
        of the coalition present; entry 0 is the majority vote's.

    Raises:
      InputError: a table that is no game or holds NaN.

    XOR of two 0/1 bits by macro F1, an absent bit read as 0, base the majority vote:

    >>> round(float(shape(np.array([1 / 3, 0.5, 0.5, 1.0])).cooperation), 4)
    0.3333
    """
    table, n, xp = as_table(performances)
    gain = table[..., -1] - table[..., 0]
    alone = table[..., [1 << m for m in range(n)]] - table[..., :1]
    cooperation = gain - alone.sum(-1)
    relative = cooperation / xp.where(gain == 0, xp.nan, gain)
    return Shape(shapley_values(table), xp.asarray(cooperation), xp.asarray(relative))


def performance_game(
    intervention: Intervention,
    model: Model,
    batch: Inputs,
    labels: Integer[ArrayLike, "examples"],
    metric: Metric = macro_f1,
    base: Metric | None = None,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    link: str | Link | None = None,
) -> Float[np.ndarray, "coalitions"]:
    """The performance of a model with the modalities of every coalition.

    Args:
      intervention: what replaces an absent modality (outputs are averaged over the draws of a
        marginal reference before the class is chosen).
      model: the class is the argmax of its outputs.
      batch: inputs of a labelled sample.
      labels: ``[examples]``.
      metric: ``metric(predicted, labels)``; macro F1 by default.
      base: the metric of the majority vote that stands for nobody, the same as ``metric`` by
        default. (The InterSHAP paper's SHAPE column mixes macro F1 with the *accuracy* of the
        majority vote: pass ``accuracy`` for it.)
      chunk, mesh, progress: as in :func:`~mmx_jax.map_examples`.
      link: the scale on which the outputs of draws are averaged; the model's own by default.

    Returns:
      ``[2**M]``. Cost: 2**M model evaluations per example and reference draw.
    """
    outputs = coalition_outputs(intervention, model, batch, chunk, mesh, progress, link)
    classes = np.argmax(outputs, -1)
    labels = np.asarray(labels)
    values = [metric(classes[:, c], labels) for c in range(classes.shape[1])]
    values[0] = (metric if base is None else base)(majority(labels), labels)
    return np.array(values)
