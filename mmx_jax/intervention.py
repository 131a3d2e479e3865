"""Counterfactuals: the model under gates, coalitions of modalities, and their effects.

Everything counterfactual is the model under gates: ablating a modality is a gate of zeros, a
coalition is a gate per player, keeping and removing units are set gates, a learned mask is a soft
gate. :class:`FeatureGates` is the intervention on input features.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.games import memberships
from mmx_jax.gates import full
from mmx_jax.mapping import map_stacked, mean_over
from mmx_jax.modality import Modality
from mmx_jax.model import SplitModel, pick
from mmx_jax.numerics import safe_divide
from mmx_jax.typing import (
    Gates,
    Inputs,
    Intervention,
    Model,
    Outputs,
    Scores,
    Target,
    record,
    static,
)

__all__ = [
    "FeatureGates",
    "coalition_game",
    "coalition_values",
    "modality_effects",
    "rescale",
    "value",
    "values",
    "within",
]


@record
class FeatureGates:
    """Blends the features of each modality with its reference.

    Attributes:
      modalities: by name.
      chunk: how many reference draws are computed at once (marginal references only). One by
        default: gates and examples are mapped around them already.
    """

    modalities: dict[str, Modality]
    chunk: int | None = static(default=1)

    def __post_init__(self) -> None:
        """Checks names and draws."""
        check_modalities(self.modalities)

    @property
    def units(self) -> dict[str, int]:
        """The number of units per modality, sorted by name."""
        return {name: self.modalities[name].units for name in sorted(self.modalities)}

    @property
    def draws(self) -> int:
        """How many reference draws a value is averaged over."""
        return max(1, *(m.draws for m in self.modalities.values()))

    def blend(self, inputs: Inputs, gates: Gates, draw: int | Int[Array, ""] = 0) -> Inputs:
        """The inputs under gates with one reference draw, the same for all modalities.

        Inputs that are no modality here stay as they are.
        """
        blended = {n: m.blend(inputs[n], gates[n], draw) for n, m in self.modalities.items()}
        return inputs | blended

    def __call__(self, model: Model, inputs: Inputs, gates: Gates) -> Outputs:
        """Outputs under gates, averaged over reference draws after the link."""
        if self.draws == 1:
            return model(self.blend(inputs, gates))
        return mean_over(lambda d: model(self.blend(inputs, gates, d)), self.draws, self.chunk)

    def ablate(self, inputs: Inputs, name: str, draw: int | Int[Array, ""] = 0) -> Inputs:
        """The inputs with every unit of modality ``name`` replaced by its reference."""
        modality = self.modalities[name]
        closed = jnp.zeros((modality.units,), bool)
        return inputs | {name: modality.blend(inputs[name], closed, draw)}


def value(
    intervention: Intervention, model: Model, inputs: Inputs, target: Target, gates: Gates
) -> Float[Array, ""]:
    """``v = f(x under gates)[target]``."""
    return pick(intervention(model, inputs, gates), target)


def values(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    gates: dict[str, Any],
    chunk: int | None = None,
) -> Float[Array, "rows"]:
    """Values under many gates (leading axis: rows), a chunk at a time."""
    return map_stacked(lambda g: value(intervention, model, inputs, target, g), gates, chunk=chunk)


def within(
    intervention: Intervention, model: Model, inputs: Inputs, target: Target, name: str
) -> Callable[[Float[Array, "units"] | Bool[Array, "units"]], Float[Array, ""]]:
    """The within-modality game ``v_m(gate) = v(x with gate on m, the others intact)``.

    With a :class:`SplitModel` under feature gates the other modalities are encoded once.
    """
    if isinstance(model, SplitModel) and isinstance(intervention, FeatureGates):
        _check_encoders(model, [name])
        codes = {n: model.encode(n, inputs[n]) for n in model.encoders if n != name}
        modality = intervention.modalities[name]

        def decoded(gate: Array, draw: Any) -> Outputs:
            code = model.encode(name, modality.blend(inputs[name], gate, draw))
            return model.decode(codes | {name: code})

        draws = max(modality.draws, 1)
        if draws == 1:
            return lambda gate: pick(decoded(gate, 0), target)
        return lambda gate: pick(
            mean_over(lambda d: decoded(gate, d), draws, intervention.chunk), target
        )

    # the others' gates stay hard, so that they may hold integers beside a soft gate
    ones = full(intervention.units)
    return lambda gate: value(intervention, model, inputs, target, ones | {name: gate})


def coalition_game(
    intervention: Intervention, model: Model, inputs: Inputs
) -> Callable[[Int[Array, ""]], Outputs]:
    """The game of modalities: coalition index (bit m: the m-th sorted modality) to outputs.

    With a :class:`SplitModel` under feature gates every modality is encoded once intact and once
    per reference draw, and a coalition only chooses codes and fuses them.
    """
    names = sorted(intervention.units)
    if isinstance(model, SplitModel) and isinstance(intervention, FeatureGates):
        _check_encoders(model, names)
        intact = {n: model.encode(n, inputs[n]) for n in sorted(model.encoders)}
        absent = {n: _encode_reference(intervention, model, inputs, n) for n in names}

        def fused(present: Array, draw: Any) -> Outputs:
            def choose(n: str, here: Array) -> PyTree:
                marginal = intervention.modalities[n].draws > 0
                gone = jax.tree.map(lambda leaf: leaf[draw], absent[n]) if marginal else absent[n]
                return jax.tree.map(lambda a, b: jnp.where(here, a, b), intact[n], gone)

            chosen = {n: choose(n, present[i]) for i, n in enumerate(names)}
            return model.decode(intact | chosen)

        def shared(coalition: Array) -> Outputs:
            present = memberships(len(names), coalition)
            if intervention.draws == 1:
                return fused(present, 0)
            return mean_over(lambda d: fused(present, d), intervention.draws, intervention.chunk)

        return shared

    def whole(coalition: Array) -> Outputs:
        present = memberships(len(names), coalition)
        gates = {
            n: jnp.broadcast_to(present[i], (intervention.units[n],)) for i, n in enumerate(names)
        }
        return intervention(model, inputs, gates)

    return whole


def _check_encoders(model: SplitModel, names: list[str]) -> None:
    for name in names:
        if name not in model.encoders:
            raise InputError(
                "model", f"has no encoder for {name!r}", "give it one, or leave the modality out"
            )


def _encode_reference(
    intervention: FeatureGates, model: SplitModel, inputs: Inputs, name: str
) -> PyTree:
    draws = intervention.modalities[name].draws
    if not draws:
        return model.encode(name, intervention.ablate(inputs, name)[name])
    return map_stacked(
        lambda d: model.encode(name, intervention.ablate(inputs, name, d)[name]), jnp.arange(draws)
    )


def coalition_values(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    chunk: int | None = None,
) -> Float[Array, "coalitions"]:
    """Values ``[2**M]`` of all coalitions of modalities (bit m: the m-th sorted name is intact)."""
    game = coalition_game(intervention, model, inputs)
    count = 1 << len(intervention.units)
    return map_stacked(lambda c: pick(game(c), target), jnp.arange(count), chunk=chunk)


def modality_effects(
    intervention: Intervention, model: Model, inputs: Inputs, target: Target
) -> dict[str, Float[Array, ""]]:
    """``df_m = |v(x) - v(x_-m)|`` per modality (eq. 2): M + 1 model calls (per reference draw)."""
    names = sorted(intervention.units)
    game = coalition_game(intervention, model, inputs)
    everyone = (1 << len(names)) - 1
    rows = jnp.array([everyone] + [everyone - (1 << i) for i in range(len(names))])
    outputs = map_stacked(lambda c: pick(game(c), target), rows)
    return {n: jnp.abs(outputs[0] - outputs[i + 1]) for i, n in enumerate(names)}


def rescale(scores: Scores, mass: dict[str, Float[Array, ""]]) -> Scores:
    """Scores with ``||E_m||_1`` set to ``mass[m]``; spread evenly where all scores of m are 0."""
    out = {}
    for name, score in scores.items():
        total = jnp.sum(jnp.abs(score))
        even = jnp.full(score.shape, 1 / score.shape[0], score.dtype)
        # NaN is no zero: it is passed on
        share = jnp.where(total == 0, even, safe_divide(score, total, 0.0))
        out[name] = mass[name] * share
    return out
