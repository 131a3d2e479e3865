"""DIME: a model disentangled into a unimodal and an interaction part, each explained on its own.

Lyu, Liang, Deng, Salakhutdinov and Morency, *DIME: Fine-grained Interpretations of Multimodal
Models via Disentangled Local Explanations* (AIES 2022). Both parts are models again, so any
explainer of the package explains them (the paper uses LIME).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.mapping import mean_over
from mmx_jax.model import Link, as_model
from mmx_jax.typing import (
    Explainer,
    Inputs,
    Model,
    Outputs,
    PRNGKey,
    Scores,
    Target,
    record,
    static,
)

__all__ = ["DIME", "InteractionPart", "UnimodalPart", "disentangle"]

MAX_COMBINATIONS = 1 << 20


@record
class UnimodalPart:
    """``UC(x) = sum_m E f(x_m, X_-m) - (M - 1) E f(X)``, expectations over a background sample.

    Attributes:
      model: the model f.
      background: inputs of N examples; modalities are combined freely among them.
      mean: ``E f(X)`` over all N**M combinations, ``[outputs]``.
      chunk: model evaluations made at once.
    """

    model: Model
    background: Inputs
    mean: Float[Array, "outputs"]
    chunk: int | None = static(default=None)

    @property
    def evaluations(self) -> int:
        """Model evaluations per call: M N for two modalities, M N**(M-1) in general."""
        count, names = _size(self.background)
        return len(names) * count ** (len(names) - 1)

    def __call__(self, inputs: Inputs) -> Outputs:
        """Outputs ``[outputs]`` of the unimodal part for one example."""
        count, names = _size(self.background)

        def with_own(name: str) -> Outputs:
            others = [n for n in names if n != name]

            def combined(index: Array) -> Outputs:
                drawn = _combination(self.background, others, count, index)
                return self.model(drawn | {name: inputs[name]})

            return mean_over(combined, count ** len(others), self.chunk)

        total = with_own(names[0])
        for name in names[1:]:
            total = total + with_own(name)
        return total - (len(names) - 1) * self.mean


@record
class InteractionPart:
    """``MI(x) = f(x) - UC(x)``: what no sum of functions of single modalities gives.

    Attributes:
      unimodal: the unimodal part.
    """

    unimodal: UnimodalPart

    @property
    def evaluations(self) -> int:
        """Model evaluations per call."""
        return 1 + self.unimodal.evaluations

    def __call__(self, inputs: Inputs) -> Outputs:
        """Outputs ``[outputs]`` of the interaction part for one example."""
        return self.unimodal.model(inputs) - self.unimodal(inputs)


def disentangle(
    model: Model,
    background: Inputs,
    chunk: int | None = None,
    link: str | Link | None = None,
) -> tuple[UnimodalPart, InteractionPart]:
    """The two parts of a model, whose outputs sum to the model's.

    Args:
      model: the model.
      background: inputs of N examples, the distribution of each modality on its own.
      chunk: model evaluations made at once.
      link: the scale on which "additive" is meant; the model's own by default.

    Returns:
      both parts, as models. Cost: N**M model evaluations now, M N**(M-1) per call.

    Raises:
      InputError: fewer than two modalities, or more than 2**20 combinations of the background.
    """
    model = as_model(model, link)
    count, names = _size(background)
    if len(names) < 2:
        raise InputError("background", "has one modality", "give two or more")
    if count ** len(names) > MAX_COMBINATIONS:
        raise InputError(
            "background",
            f"has {count}**{len(names)} combinations",
            f"give at most {int(MAX_COMBINATIONS ** (1 / len(names)))} examples",
        )
    mean = mean_over(
        lambda i: model(_combination(background, names, count, i)), count ** len(names), chunk
    )
    part = UnimodalPart(model, jax.tree.map(jnp.asarray, background), mean, chunk)
    return part, InteractionPart(part)


@record
class DIME:
    """Explains the unimodal or the interaction part of a model with another explainer.

    The mean over all combinations is computed anew in every explanation; where many examples are
    explained, call :func:`disentangle` once and the explainer on its parts.

    Attributes:
      explainer: explains one part, as it would explain a model.
      background: inputs of N examples.
      part: ``"unimodal"`` or ``"interaction"``.
      chunk: model evaluations made at once.
    """

    explainer: Explainer
    background: Inputs
    part: str = static(default="interaction")
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Refuses unknown parts."""
        if self.part not in ("unimodal", "interaction"):
            raise UnknownNameError("part", self.part, ["unimodal", "interaction"])

    @property
    def evaluations(self) -> int:
        """Model evaluations per explanation: those of the explainer times those of the part."""
        count, names = _size(self.background)
        per_call = len(names) * count ** (len(names) - 1) + (self.part == "interaction")
        return self.explainer.evaluations * per_call + count ** len(names)

    def __call__(self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None) -> Scores:
        """Scores of the units of one example for one target of the part."""
        unimodal, interaction = disentangle(model, self.background, self.chunk)
        part = unimodal if self.part == "unimodal" else interaction
        return self.explainer(part, inputs, target, key)


def _size(background: Inputs) -> tuple[int, list[str]]:
    leaves = jax.tree.leaves(background)
    if not leaves or len({jnp.shape(leaf)[:1] for leaf in leaves}) != 1:
        raise InputError("background", "has no common leading axis", "give a batch of examples")
    count = jnp.shape(leaves[0])[0]
    return count, sorted(background)


def _combination(background: Inputs, names: list[str], count: int, index: Array) -> Inputs:
    """Combination number ``index`` of the background: its digits to base ``count`` are rows."""
    rows = {n: (index // count**i) % count for i, n in enumerate(names)}
    return {n: jax.tree.map(lambda leaf, r=rows[n]: leaf[r], background[n]) for n in names}
