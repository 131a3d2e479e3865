"""The Perceptual score: how much a model's performance rests on one modality.

Gat, Schwartz and Schwing, *Perceptual Score: What Data Modalities Does Your Model Perceive?*
(NeurIPS 2021): the drop of the accuracy when a modality is permuted among the examples.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Integer
from scipy import stats

from mmx_jax.errors import InputError
from mmx_jax.interactions.evaluate import accuracy, majority, predictions, take
from mmx_jax.mapping import Progress
from mmx_jax.numerics import derive_key
from mmx_jax.typing import ArrayLike, Inputs, Model, PRNGKey, record

__all__ = ["Perceptual", "perceptual_scores"]


@record
class Perceptual:
    """Perceptual scores by modality name.

    Attributes:
      drop: performance minus its mean with the modality permuted, on the metric's scale.
      interval: the half-width of the drop's Student interval over permutations (the examples are
        taken as given).
      model_normalised: the drop as a share of the performance.
      task_normalised: the drop as a share of what lies between the majority vote and a perfect
        score of 1; NaN where nothing lies there.
      performance: of the model on the intact sample.
    """

    drop: dict[str, float]
    interval: dict[str, float]
    model_normalised: dict[str, float]
    task_normalised: dict[str, float]
    performance: float


def perceptual_scores(
    model: Model,
    batch: Inputs,
    labels: Integer[ArrayLike, "examples"],
    key: PRNGKey,
    permutations: int = 5,
    metric: Callable[[Any, Any], float] = accuracy,
    confidence: float = 0.95,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Perceptual:
    """Perceptual scores of all modalities.

    Args:
      model: the class is the argmax of its outputs.
      batch: inputs of a labelled sample.
      labels: ``[examples]``.
      key: of the permutations.
      permutations: how many per modality, at least 2.
      metric: ``metric(predicted, labels)``, 1 for a perfect model.
      confidence: of the interval.
      chunk, mesh, progress: as in :func:`~mmx_jax.map_examples`; progress once per pass over the
        sample.

    Returns:
      the scores. Cost: ``1 + M * permutations`` model evaluations per example.
    """
    if permutations < 2:
        raise InputError("permutations", f"is {permutations}", "use at least 2")
    labels = np.asarray(labels)

    def performance(inputs: Inputs) -> float:
        return metric(predictions(model, inputs, chunk, mesh, progress), labels)

    intact = performance(batch)
    span = 1 - metric(majority(labels), labels)
    drop, interval = {}, {}
    for name in sorted(batch):
        drops = []
        for p in range(permutations):
            rows = jax.random.permutation(derive_key(key, f"permute {name}", p), len(labels))
            drops.append(intact - performance(batch | {name: take(batch[name], np.asarray(rows))}))
        spread = np.std(drops, ddof=1) / np.sqrt(permutations)
        drop[name] = float(np.mean(drops))
        interval[name] = float(stats.t.ppf((1 + confidence) / 2, permutations - 1) * spread)
    return Perceptual(
        drop=drop,
        interval=interval,
        model_normalised={n: d / (intact or math.nan) for n, d in drop.items()},
        task_normalised={n: d / (span or math.nan) for n, d in drop.items()},
        performance=intact,
    )
