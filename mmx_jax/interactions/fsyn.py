"""Synergistic faithfulness: do the top units of all modalities matter *together*?

Ky, Ghamizi and Cordy, *Measuring Cross-Modal Synergy: A Benchmark for VLM Explainability*
(arXiv 2605.22168, 2026) score an explanation by the joint Harsanyi dividend of the sets of units
it puts first in each modality.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.errors import InputError
from mmx_jax.games import memberships, moebius
from mmx_jax.gates import top_k
from mmx_jax.intervention import value
from mmx_jax.mapping import map_stacked
from mmx_jax.numerics import derive_key
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
) -> SynergisticFaithfulness:
    """Synergistic faithfulness of one explanation.

    The players are the top sets ``S_m`` of ``ceil(b |U_m|)`` units of each modality; a coalition
    keeps the sets of its members and replaces all other units by their reference. The dividend of
    all players together is ``sum_C (-1)^(M-|C|) v(C)``, for two modalities
    ``v(S_1 + S_2) - v(S_1) - v(S_2) + v(none)``.

    Args:
      intervention, model, inputs, target: as everywhere; the mask distribution is the
        intervention's.
      scores: of an explainer; ranked by magnitude.
      key: breaks ties; without it the first units win them.
      budgets: shares of each modality's units, above 0, at most 1.
      chunk: model evaluations made at once.

    Returns:
      the curve, its mean, and the dividend of the whole modalities. Cost:
      ``(budgets + 1) * 2**M`` model evaluations (times reference draws).

    Raises:
      InputError: budgets out of range.
    """
    if not budgets or not all(0 < b <= 1 for b in budgets):
        raise InputError("budgets", f"is {budgets}", "use shares above 0, at most 1")
    names = sorted(intervention.units)
    shares = (*budgets, 1.0)
    counts = {n: [int(np.ceil(b * intervention.units[n] - 1e-9)) for b in shares] for n in names}
    tops = {
        n: jnp.stack(
            [
                top_k(scores[n], k, None if key is None else derive_key(key, f"ties {n}"))
                for k in counts[n]
            ]
        )
        for n in names
    }
    members = memberships(len(names))
    size = members.shape[0]

    def one(row: Array) -> Array:
        present, budget = members[row % size], row // size
        gates = {n: tops[n][budget] & present[i] for i, n in enumerate(names)}
        return value(intervention, model, inputs, target, gates)

    table = map_stacked(one, jnp.arange(size * len(shares)), chunk=chunk)
    dividends = moebius(table.reshape(len(shares), size))[:, -1]
    return SynergisticFaithfulness(
        jnp.mean(dividends[:-1]), jnp.asarray(dividends[:-1]), jnp.asarray(dividends[-1])
    )
