"""MM-SHAP: the share of each modality in an explanation.

Parcalabescu and Frank, *MM-SHAP: A Performance-agnostic Metric for Measuring Multimodal
Contributions in Vision and Language Models & Tasks* (ACL 2023).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.errors import InputError
from mmx_jax.numerics import is_traced, safe_divide
from mmx_jax.typing import ArrayLike

__all__ = ["mm_shap"]


def mm_shap(scores: dict[str, ArrayLike]) -> dict[str, Float[Array, "*batch"]]:
    """Percent of the absolute scores that each modality holds.

    ``100 sum_u |phi_m,u| / sum_n sum_u |phi_n,u|``. The paper takes Shapley values over the units
    of *all* modalities as players, estimated by permutations; scores of any explainer work. The
    published number of a data set is the mean over its examples. Cost: that of the scores.

    Args:
      scores: ``{m: [..., units]}``, of one example or a batch.

    Returns:
      ``{m: [...]}``, summing to 100; NaN where all scores are 0.

    Raises:
      InputError: no modality, or NaN scores.

    >>> {n: float(s) for n, s in mm_shap({"a": jnp.array([1.0, -2.0]), "b": jnp.ones(1)}).items()}
    {'a': 75.0, 'b': 25.0}
    """
    if not scores:
        raise InputError("scores", "is empty", "give the scores of at least one modality")
    for name, score in scores.items():
        if not is_traced(score) and not bool(jnp.all(jnp.isfinite(score))):
            raise InputError(f"scores[{name!r}]", "holds NaN or infinite entries", "check them")
    mass = {name: jnp.sum(jnp.abs(scores[name]), -1) for name in sorted(scores)}
    total = jnp.sum(jnp.stack(list(mass.values())), 0)
    return {name: safe_divide(100 * m, total) for name, m in mass.items()}
