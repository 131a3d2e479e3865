"""What a task is: a sampler of labelled examples, and what is known of them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Int

from mmx_jax.modality import Modality
from mmx_jax.model import FunctionModel
from mmx_jax.typing import Explainer, Inputs, PRNGKey, record, static

__all__ = ["Batch", "Task", "draw"]


class Batch(NamedTuple):
    """Examples with a leading axis.

    Attributes:
      inputs: per modality ``[n, ...]``.
      labels: ``[n]``.
      truth: what is known per example: ``mode`` ``[n]``, an index into ``Task.modes``; in analytic
        worlds also ``relevant``, ``{m: bool [n, units]}`` (every copy counts); ``set_only``
        ``[n]``, true where only a set of units is the truth, because any of its copies would do;
        ``pairs``, ``{(n, m): bool [n, units_n, units_m]}``, the units of two modalities that
        interact on the scale of the log-odds (on probabilities sums bend too); ``optimal``
        ``[n]``, the Bayes-optimal ``P(label = 1 | inputs)``. The exact Shapley values and Moebius
        coefficients of the modalities are :func:`~mmx_jax.tasks.exact_games` of the inputs.
    """

    inputs: Inputs
    labels: Int[Array, "n"]
    truth: dict[str, Any]


@record
class Task:
    """A multimodal problem.

    Attributes:
      modalities: by name.
      sample: ``sample(key, n) -> Batch`` of the evaluation split; a callable pytree.
      sample_training: the same of the training split.
      model: the exact model where the task is analytic, otherwise None.
      reference: the explainer that returns the true contributions of the exact model, otherwise
        None.
      name: as the command line calls it.
      outputs: how many outputs a model of it has.
      target: the output that is explained, where the task fixes one; None for the predicted one.
      target_names: a word per output.
      modes: a word per mode.
      description: one or two plain sentences.
      declared: of a declared world the modes themselves, otherwise empty.
    """

    modalities: dict[str, Modality]
    sample: Callable[..., Batch]
    sample_training: Callable[..., Batch]
    model: FunctionModel | None
    reference: Explainer | None
    name: str = static()
    outputs: int = static()
    target: int | None = static()
    target_names: tuple[str, ...] = static()
    modes: tuple[str, ...] = static()
    description: str = static()
    declared: tuple[Any, ...] = static(default=())


@partial(jax.jit, static_argnums=2)
def draw(sample: Callable[..., Batch], key: PRNGKey, n: int) -> Batch:
    """``sample(key, n)`` as one compiled program; a sampler is a pytree, so seeds share it."""
    return sample(key, n)
