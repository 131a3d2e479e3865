"""Joint dividends of sets of units: do the units that scores put first matter *together*?

What judging explanations and measuring interaction share: Ky, Ghamizi and Cordy, *Measuring
Cross-Modal Synergy: A Benchmark for VLM Explainability* (arXiv 2605.22168, 2026), with any number
of modalities.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.errors import InputError
from mmx_jax.games import memberships, moebius
from mmx_jax.gates import rank
from mmx_jax.intervention import values
from mmx_jax.typing import Inputs, Intervention, Model, PRNGKey, Scores, Target

__all__ = ["top_set_dividends"]


def top_set_dividends(
    intervention: Intervention,
    model: Model,
    scores: Scores,
    inputs: Inputs,
    target: Target,
    shares: tuple[float, ...],
    key: PRNGKey | None = None,
    chunk: int | None = None,
) -> Float[Array, "shares"]:
    """The joint Harsanyi dividend of the top sets of all modalities, at every budget.

    The players are the top ``ceil(share * units)`` units of each modality; a coalition keeps those
    of its members and replaces all other units by their reference. The dividend of all players is
    ``sum_C (-1)^(M - |C|) v(C)``, for two modalities ``v(A, B) - v(A) - v(B) + v()``.

    Args:
      intervention: what removing a unit means.
      model: the model.
      scores: of one example, ranked by magnitude.
      inputs: of the example.
      target: the output.
      shares: budgets per modality, rounded up to whole units.
      key: breaks ties; without it the first units win them.
      chunk: model calls made at once.

    Returns:
      the dividends ``[shares]``. Cost: ``shares * 2**M`` model calls (times reference draws).

    Raises:
      InputError: no share, or one outside (0, 1].
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise InputError("budgets", f"are {shares}", "use shares above 0, at most 1")
    names = sorted(intervention.units)
    present = memberships(len(names))  # [coalitions, modalities]
    gates = {}
    for i, name in enumerate(names):
        place = rank(scores[name], None if key is None else jax.random.fold_in(key, i))
        count = np.ceil(np.asarray(shares) * intervention.units[name] - 1e-9)
        top = place < jnp.asarray(count)[:, None]  # [shares, units]
        gates[name] = (top[:, None, :] & present[None, :, i, None]).reshape(-1, place.shape[0])
    v = values(intervention, model, inputs, target, gates, chunk)
    return jnp.asarray(moebius(v.reshape(len(shares), -1)))[:, -1]
