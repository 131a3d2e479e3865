"""What a cell shows beside the desiderata: measures of others, and the distance to the truth."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mmx_jax import FeatureGates, derive_key, map_examples
from mmx_jax.desiderata.measure import Examples, explain_rows
from mmx_jax.desiderata.others import curves, fsyn, infidelity
from mmx_jax.typing import Array, Explainer, Inputs, Intervention, Model, Scores, record

__all__ = ["beside_truth", "explain", "measures_of_others"]


@record
class _Others:
    """The measures of others, of one example."""

    intervention: Intervention

    def __call__(
        self, model: Model, scores: Scores, inputs: Inputs, target: Array, key: Array
    ) -> Any:
        ties, drawn = derive_key(key, "ties"), derive_key(key, "removed sets")
        found = curves(self.intervention, model, scores, inputs, target, ties)
        area = (found.deletion, found.insertion, found.region_perturbation)
        known = infidelity(self.intervention, model, scores, inputs, target, drawn)
        return area, known, fsyn(self.intervention, model, scores, inputs, target, ties)


def explain(explainer: Explainer, model: Model, examples: Examples, mesh: Mesh | None) -> Any:
    """Scores ``{m: [n, units]}`` of all examples."""
    one = jax.tree.map(lambda x: jnp.asarray(x)[:, None], examples.inputs)
    rows = explain_rows(explainer, model, one, examples.targets, examples.keys, mesh=mesh)
    return jax.tree.map(lambda s: s[:, 0], rows)


def measures_of_others(
    model: Model,
    gates: FeatureGates,
    judged: Examples,
    scores: Any,
    scale: float,
    spread: float,
    mesh: Mesh | None = None,
) -> dict[str, float | None]:
    """Deletion, insertion, region perturbation, infidelity and fsyn, of R; means over examples."""
    (deletion, insertion, region), known, synergy = map_examples(
        _Others(gates),
        model,
        scores,
        judged.inputs,
        jnp.asarray(judged.targets),
        judged.keys,
        in_axes=(None, 0, 0, 0, 0),
        mesh=mesh,
    )
    values = {
        "deletion": deletion / spread,
        "insertion": insertion / spread,
        "region perturbation": region / spread,
        "infidelity": known.at(scale) / spread**2,
        "fsyn": np.abs(synergy) / spread,
    }
    return {name: _mean(value) for name, value in values.items()}


def _mean(values: Any) -> float | None:
    """The mean, None where it is not defined."""
    mean = float(np.mean(np.asarray(values, np.float64)))
    return mean if np.isfinite(mean) else None


def beside_truth(intact: Any, truth: Any, scale: float) -> dict[str, float | None]:
    """How far calibrated scores are from the reference explanation, and whether they rank alike.

    ``distance to truth`` is the mean of ``sum |c E - truth| / sum |truth|``; ``pairs ordered as in
    truth`` the share of pairs of units that differ in it by more than .02.
    """
    names = sorted(truth)
    mine, true = (
        np.concatenate([np.asarray(s[m], np.float64) for m in names], 1) for s in (intact, truth)
    )
    size = np.abs(true).sum(1)
    known = size > 1e-6
    gap = np.abs(scale * mine - true).sum(1)[known] / size[known] if known.any() else np.nan
    # units that the truth tells apart must come in its order
    order = [
        np.mean((np.abs(a)[i] > np.abs(a)[j])[ahead])
        for a, b in zip(mine, true, strict=True)
        for i, j in [np.triu_indices(len(b), 1)]
        for i, j in [np.where(np.abs(b[i]) > np.abs(b[j]), (i, j), (j, i))]
        if (ahead := np.abs(b)[i] > np.abs(b)[j] + 0.02).any()
    ]
    return {"distance to truth": _mean(gap), "pairs ordered as in truth": _mean(order or np.nan)}
