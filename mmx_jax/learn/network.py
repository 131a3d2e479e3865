"""A network that explains: every modality and target in one forward pass, without the model.

Scores are signed masses, each with an allocation of its own: ``E_m,u = sum_k c_mk(x)
softmax(z_mk(x))_u`` over a few kinds k. The masses follow how much a modality matters on this
input, the softmax ranks its units, and the ranking survives where the mass is small; two kinds let
units oppose each other. Other forms failed. A positive mass has a dead zone: where the sign is
wrong at first it goes to zero and takes the gradient of the sign along. A mass of each unit's own
spreads what is left over all units where that of the modality is about zero. One allocation with a
factor per unit for its sign learns the same as this, and takes longer for it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.learn.units import UnitEncoder
from mmx_jax.modality import Modality
from mmx_jax.model import check_target
from mmx_jax.numerics import is_traced
from mmx_jax.typing import Inputs, Model, PRNGKey, Scores, Target, record, static

__all__ = ["ExplainerNetwork", "LearnedExplainer", "as_explainer"]

Units = dict[str, Float[Array, "_ dim"]]
"""The unit vectors of each modality."""


class Round(nnx.Module):
    """Every unit is updated by itself and by a summary of all units, in time linear in units.

    ``h_u <- h_u + W (gelu(A h_u + B c) (1 + D c))`` with ``c = gelu(C [mean_m h, max_m h,
    target])``. The product lets the context turn the sign of what a unit says, which synergy needs:
    without it the products of two modalities were not learned in 1500 steps.

    Args:
      dim: width of the unit vectors.
      summary: width of the summary.
      rngs: draws the weights.
    """

    def __init__(self, dim: int, summary: int, rngs: nnx.Rngs):
        self.context = nnx.Linear(summary, dim, rngs=rngs)
        self.own = nnx.Linear(dim, dim, rngs=rngs)
        self.shared = nnx.Linear(dim, dim, use_bias=False, rngs=rngs)
        self.turn = nnx.Linear(dim, dim, rngs=rngs)
        self.out = nnx.Linear(dim, dim, rngs=rngs)

    def __call__(self, units: Units, summary: Float[Array, "summary"]) -> Units:
        """The unit vectors after the round."""
        context = jax.nn.gelu(self.context(summary))
        shared, turn = self.shared(context), 1.0 + self.turn(context)
        return {n: h + self.out(jax.nn.gelu(self.own(h) + shared) * turn) for n, h in units.items()}


class ExplainerNetwork(nnx.Module):
    """Scores of all units of 1 or more modalities of any kind, for one target.

    Unit encoders, ``rounds`` of mixing across all units and modalities, then two heads: the
    allocations over the units, and the masses of each modality.

    Args:
      modalities: by name.
      outputs: how many targets there are.
      dim: width of the unit vectors.
      rounds: of mixing.
      kinds: masses per modality; with one alone units can't oppose each other.
      scale: of the scores; about the range of the model's outputs.
      rngs: draws the weights.

    Raises:
      InputError: a modality that can't be encoded, or a setting below 1.

    >>> modalities = {"image": Modality.patches((8, 8), 2), "note": Modality.token_ids(6, 20)}
    >>> net = ExplainerNetwork(modalities, outputs=3, dim=16, rngs=nnx.Rngs(0))
    >>> scores = net({"image": jnp.ones((8, 8)), "note": jnp.zeros(6, int)}, 1)
    >>> {name: score.shape for name, score in scores.items()}
    {'image': (16,), 'note': (6,)}
    """

    def __init__(
        self,
        modalities: dict[str, Modality],
        outputs: int,
        *,
        dim: int = 64,
        rounds: int = 2,
        kinds: int = 2,
        scale: float = 1.0,
        rngs: nnx.Rngs,
    ):
        check_modalities(modalities)
        if min(outputs, dim, rounds, kinds) < 1:
            raise InputError(
                "outputs, dim, rounds, kinds",
                f"are {outputs}, {dim}, {rounds}, {kinds}",
                "use 1 or more",
            )
        names = sorted(modalities)
        self.units = tuple((name, modalities[name].units) for name in names)
        self.scale = scale
        summary = 2 * dim * len(names) + dim
        self.encoders = nnx.Dict({n: UnitEncoder(n, modalities[n], dim, rngs) for n in names})
        self.target = nnx.Embed(outputs, dim, rngs=rngs)
        self.enter = nnx.Linear(dim, dim, rngs=rngs)
        self.rounds = nnx.List([Round(dim, summary, rngs) for _ in range(rounds)])
        # a softmax does not see a bias: what its weights would get is rounding
        self.allocate = nnx.Linear(dim, kinds, use_bias=False, rngs=rngs)
        self.weigh = nnx.Linear(summary, dim, rngs=rngs)
        self.mass = nnx.Linear(dim, kinds * len(names), rngs=rngs)

    def __call__(self, inputs: Inputs, target: Target) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        check_target(target, self.target.num_embeddings)
        goal = self.target(jnp.asarray(target))
        codes = {name: self.encoders[name](inputs[name]) for name, _ in self.units}
        # a modality apart from the others all the way: joining and cutting them took a tenth
        units = {name: h + self.enter(jax.nn.gelu(h)) for name, h in codes.items()}

        def summary(units: Units) -> Array:
            pooled = [pool(h, 0) for h in units.values() for pool in (jnp.mean, jnp.max)]
            return jnp.concatenate([*pooled, goal])

        for mix in self.rounds:
            units = mix(units, summary(units))
        masses = self.scale * self.mass(jax.nn.gelu(self.weigh(summary(units))))
        masses = masses.reshape(len(units), -1)
        return {
            name: jnp.sum(masses[i] * jax.nn.softmax(self.allocate(h), 0), -1)
            for i, (name, h) in enumerate(units.items())
        }


@record
class LearnedExplainer:
    """A trained network as an ordinary explainer; its weights are leaves.

    Attributes:
      state: the network's arrays, as pure leaves.
      graphdef: its structure.
      only: the one target that it was trained for, None where for all.
    """

    state: PyTree
    graphdef: Any = static()
    only: int | None = static(default=None)

    @property
    def evaluations(self) -> int:
        """None: the model is never called."""
        return 0

    def __call__(
        self, model: Model | None, inputs: Inputs, target: Target, key: PRNGKey | None = None
    ) -> Scores:
        """Scores ``{m: [units_m]}`` of one example; the model and the key are ignored.

        Raises:
          InputError: a target that there is none of, or that it was not trained for, as far as it
            is known: not inside ``jit`` or ``vmap``.
        """
        if self.only is not None and not is_traced(target) and int(target) != self.only:
            raise InputError(
                "target", f"is {int(target)}", f"use {self.only}, the only one it was trained for"
            )
        return nnx.merge(self.graphdef, self.state)(inputs, target)

    def network(self) -> nnx.Module:
        """The network itself, a fresh copy."""
        return nnx.merge(self.graphdef, self.state)


def as_explainer(network: nnx.Module) -> LearnedExplainer:
    """The network as a callable pytree, its state split off as pure leaves."""
    graphdef, state = nnx.split(network)
    return LearnedExplainer(nnx.as_pure(state), graphdef)
