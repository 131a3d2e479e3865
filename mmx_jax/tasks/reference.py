"""The reference explanation of an analytic world: exact Shapley values, found cheaply."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.games import memberships, shapley_coefficients
from mmx_jax.gates import full
from mmx_jax.intervention import FeatureGates, value
from mmx_jax.mapping import accumulate
from mmx_jax.modality import Modality
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["KnownContributions", "Reader"]


ROUNDING = 1e-6
"""Contributions below this are those of null players; outputs are probabilities."""


@runtime_checkable
class Reader(Protocol):
    """A world's model that tells what its units carry."""

    def unit_reads(self, inputs: Inputs, /) -> dict[str, Float[Array, "units channels"]]:
        """Per modality ``[units, channels]``, 0 where no term reads."""
        ...


@record
class KnownContributions:
    """Exact Shapley values of the units of a world's examples.

    Without ``joint`` they are those of the within-modality games ``v_m(S) = v(x_S in m, the others
    intact)``, which sum to the signed effect of m; with it those of one game over all units
    (Shapley 1953). Units that the world's model reads as zero are exact null players, so only the
    ``players[m]`` loudest units of each modality are enumerated and all others score zero. This
    is exact for the world's model as long as no more units carry a marker, as in every sample.
    Enumerated players that come out within rounding of zero score zero too: ranks see them.

    Attributes:
      modalities: by name.
      world: the world's model, which tells who carries a marker.
      players: per modality (sorted) how many units may carry one.
      joint: whether all modalities play one game.
    """

    modalities: dict[str, Modality]
    world: Reader
    players: tuple[tuple[str, int], ...] = static()
    joint: bool = static(default=False)

    @property
    def evaluations(self) -> int:
        """Model calls of one explanation: ``2**players`` per game and reference draw."""
        counts = [count for _, count in self.players]
        calls = 2 ** sum(counts) if self.joint else sum(2**count for count in counts)
        return calls * FeatureGates(self.modalities).draws

    def __call__(
        self, model: Model, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Contributions of all units of one example."""
        intervention = FeatureGates(self.modalities)
        ones = full(intervention.units)
        reads = self.world.unit_reads(inputs)
        chosen = {
            name: jax.lax.top_k(jnp.max(jnp.abs(reads[name]), -1), count)[1]
            for name, count in self.players
            if count
        }
        scores = {name: jnp.zeros(gate.shape) for name, gate in ones.items()}

        def play(names: list[str]) -> Float[Array, "players"]:
            counts = [len(chosen[name]) for name in names]
            total = sum(counts)

            def term(coalition: Array) -> Array:
                present, gates, start = memberships(total, coalition), dict(ones), 0
                for name, count in zip(names, counts, strict=True):
                    here = present[start : start + count]
                    gates[name] = ones[name].at[chosen[name]].set(here)
                    start += count
                worth = value(intervention, model, inputs, target, gates)
                return shapley_coefficients(coalition, total) * worth

            return accumulate(term, 2**total)

        names = [name for name, count in self.players if count]
        for game in [names] if self.joint else [[name] for name in names]:
            phi, start = play(game), 0
            phi = jnp.where(jnp.abs(phi) > ROUNDING, phi, 0.0)
            for name in game:
                count = len(chosen[name])
                scores[name] = scores[name].at[chosen[name]].set(phi[start : start + count])
                start += count
        return scores
