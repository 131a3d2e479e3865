"""Shapley explainers that enumerate: over all units, over modalities, within each modality.

``phi_i = sum_{S without i} |S|! (n-|S|-1)! / n! (v(S + i) - v(S))``, Shapley, *A Value for n-person
Games* (1953). A player that is absent is at its reference; values are averaged over the draws of
a marginal one. Sampled and grouped values are in :mod:`mmx_jax.explainers.permutation`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax import gates as gt
from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.explainers.base import calls, check_at_least, feature_gates, units_of
from mmx_jax.explainers.plans import exact_plan, joint_sum, within_sums
from mmx_jax.games import MAX_PLAYERS, shapley_coefficients
from mmx_jax.intervention import coalition_game
from mmx_jax.mapping import accumulate
from mmx_jax.modality import Modality
from mmx_jax.model import pick
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["ExactShapley", "ModalityShapley", "WithinShapley"]


@record
class ExactShapley:
    """Exact Shapley values of the joint game: the units of all modalities are the players.

    ``sum_u E_u = v(x) - v(all at reference)`` over all modalities. With more than 16 units use
    :class:`~mmx_jax.explainers.PermutationShapley` or :class:`~mmx_jax.explainers.KernelSHAP`,
    which estimate the same values.

    Args:
      modalities: what is explained; other inputs stay as they are.
      chunk: model calls made at once.

    Raises:
      InputError: more than 16 units in all.

    >>> model = lambda inputs: jnp.stack([inputs["a"][0] * inputs["b"][0] + inputs["b"][1]])
    >>> explain = ExactShapley({"a": Modality.columns(1), "b": Modality.columns(2)})
    >>> scores = explain(model, {"a": jnp.array([2.0]), "b": jnp.array([3.0, 1.0])}, 0)
    >>> [round(float(s), 4) for s in (*scores["a"], *scores["b"])]
    [3.0, 3.0, 1.0]
    """

    modalities: dict[str, Modality]
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names, settings and the number of players."""
        check_modalities(self.modalities)
        check_at_least(1, chunk=self.chunk)
        units = sum(units_of(self.modalities).values())
        if units > MAX_PLAYERS:
            raise InputError(
                "modalities",
                f"have {units} units in all",
                f"ExactShapley takes {MAX_PLAYERS}; use PermutationShapley or KernelSHAP",
            )

    @property
    def evaluations(self) -> int:
        """One call per coalition and reference draw."""
        return calls(self.modalities, 1 << sum(units_of(self.modalities).values()))

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        units = units_of(self.modalities)
        plan = exact_plan(sum(units.values()))
        flat = joint_sum(self.modalities, plan, model, inputs, target, self.chunk)
        return gt.unflatten(flat, units)


@record
class WithinShapley:
    """Exact Shapley values within each modality, the others intact: the reference explanation.

    The players of modality m are its units and ``v_m(S) = v(x_S in m, others intact)``, so
    ``sum_u E_m,u = v(x) - v(x_-m)``, the signed effect of m. A
    :class:`~mmx_jax.model.SplitModel` encodes the other modalities once. With more than 16 units
    in a modality use ``PermutationShapley(..., within=True)``.

    Args:
      modalities: what is explained; other inputs stay as they are.
      chunk: model calls made at once.

    Raises:
      InputError: more than 16 units in a modality.

    >>> model = lambda inputs: jnp.stack([inputs["a"][0] * inputs["b"][0] + inputs["b"][1]])
    >>> explain = WithinShapley({"a": Modality.columns(1), "b": Modality.columns(2)})
    >>> scores = explain(model, {"a": jnp.array([2.0]), "b": jnp.array([3.0, 1.0])}, 0)
    >>> [round(float(s), 4) for s in (*scores["a"], *scores["b"])]
    [6.0, 6.0, 1.0]
    """

    modalities: dict[str, Modality]
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names, settings and the number of players."""
        check_modalities(self.modalities)
        check_at_least(1, chunk=self.chunk)
        for name, units in units_of(self.modalities).items():
            if units > MAX_PLAYERS:
                raise InputError(
                    f"modalities[{name!r}]",
                    f"has {units} units",
                    f"WithinShapley takes {MAX_PLAYERS}; use PermutationShapley(..., within=True)",
                )

    @property
    def evaluations(self) -> int:
        """One call per coalition of each modality and reference draw."""
        return calls(self.modalities, sum(1 << n for n in units_of(self.modalities).values()))

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        plans = {name: exact_plan(units) for name, units in units_of(self.modalities).items()}
        return within_sums(self.modalities, plans, model, inputs, target, self.chunk)


@record
class ModalityShapley:
    """Exact Shapley values of the modalities, each spread evenly over its units.

    The players are whole modalities: ``sum_u E_m,u = phi_m`` and every unit of m gets
    ``phi_m / units_m``, so that the result has the structure of any explanation; :meth:`values`
    gives the M numbers themselves. A :class:`~mmx_jax.model.SplitModel` encodes each modality once
    intact and once per reference draw; every coalition then costs one fusion.

    Args:
      modalities: the players; other inputs stay as they are.
      chunk: model calls made at once.

    Raises:
      InputError: more than 16 modalities.
    """

    modalities: dict[str, Modality]
    chunk: int | None = static(default=None)

    def __post_init__(self) -> None:
        """Checks names, settings and the number of players."""
        check_modalities(self.modalities)
        check_at_least(1, chunk=self.chunk)
        if len(self.modalities) > MAX_PLAYERS:
            raise InputError(
                "modalities",
                f"are {len(self.modalities)}",
                f"ModalityShapley takes {MAX_PLAYERS}; use PermutationShapley over their units",
            )

    @property
    def evaluations(self) -> int:
        """One call per coalition of modalities and reference draw."""
        return calls(self.modalities, 1 << len(self.modalities))

    def values(self, model: Model, inputs: Inputs, target: Target) -> dict[str, Float[Array, ""]]:
        """The Shapley value of each modality."""
        intervention, size = feature_gates(self.modalities, self.chunk)
        game = coalition_game(intervention, model, inputs)
        names = sorted(self.modalities)

        def term(coalition: Array) -> Array:
            return shapley_coefficients(coalition, len(names)) * pick(game(coalition), target)

        phi = accumulate(term, 1 << len(names), size)
        return {name: phi[i] for i, name in enumerate(names)}

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the key is ignored."""
        units = units_of(self.modalities)
        phi = self.values(model, inputs, target)
        return {name: jnp.full((units[name],), phi[name] / units[name]) for name in units}
