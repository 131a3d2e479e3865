"""Synergistic faithfulness: do the top units of all modalities matter *together*?

Ky, Ghamizi and Cordy, *Measuring Cross-Modal Synergy: A Benchmark for VLM Explainability*
(arXiv 2605.22168, 2026) score an explanation by the joint Harsanyi dividend of the sets of units
it puts first in each modality.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.dividends import top_set_dividends
from mmx_jax.model import Link, as_model
from mmx_jax.typing import Inputs, Intervention, Model, PRNGKey, Scores, Target, record

__all__ = ["SynergisticFaithfulness", "fsyn"]


@record
class SynergisticFaithfulness:
    """The joint dividend of the top sets of an explanation.

    Attributes:
      area: the mean of the curve over the budgets.
      curve: the dividend at each budget, ``[budgets]``, on the model's scale.
      whole: the dividend of the whole modalities; what the curve tends to at budget 1.
    """

    area: Float[Array, ""]
    curve: Float[Array, "budgets"]
    whole: Float[Array, ""]


def fsyn(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    scores: Scores,
    key: PRNGKey | None = None,
    budgets: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5),
    chunk: int | None = None,
    link: str | Link | None = None,
) -> SynergisticFaithfulness:
    """Synergistic faithfulness of one explanation.

    The area under the joint dividends of the top sets
    (:func:`~mmx_jax.dividends.top_set_dividends`).

    Args:
      intervention, model, inputs, target: as everywhere; the mask distribution is the
        intervention's.
      scores: of an explainer; ranked by magnitude.
      key: breaks ties; without it the first units win them.
      budgets: shares of each modality's units, above 0, at most 1.
      chunk: model evaluations made at once.
      link: the scale; the model's own by default.

    Returns:
      the curve, its mean, and the dividend of the whole modalities. Cost:
      ``(budgets + 1) * 2**M`` model evaluations (times reference draws).

    Raises:
      InputError: budgets out of range.
    """
    shares = (*budgets, 1.0) if budgets else ()
    model = as_model(model, link)
    dividends = top_set_dividends(intervention, model, scores, inputs, target, shares, key, chunk)
    return SynergisticFaithfulness(jnp.mean(dividends[:-1]), dividends[:-1], dividends[-1])
