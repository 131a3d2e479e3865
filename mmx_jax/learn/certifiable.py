"""An explainer network with a global Lipschitz certificate that holds by construction.

Each unit gives evidence for K kinds of contribution, and a summary of all units gives each
modality a signed mass per kind. Scores are the evidence projected onto the L1 ball of the mass,
which is jointly 1-Lipschitz in both, so two scales are the whole certificate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from mmx_jax.checks import check_modalities
from mmx_jax.desiderata.effects import pair, pairs
from mmx_jax.errors import InputError
from mmx_jax.gates import unflatten
from mmx_jax.learn.contraction import Contraction, distinct, largest_two, max_min, project_l1
from mmx_jax.learn.units import GatheredRows, unit_rows
from mmx_jax.modality import Modality
from mmx_jax.model import check_target
from mmx_jax.typing import Inputs, Scores, Target

__all__ = ["LEAK", "CertifiableNetwork"]

LEAK = 0.01
"""The share of the evidence that is scored without a mass, so that units stay ranked."""


class Reader(nnx.Module):
    """Codes ``[units, dim]`` of the units of one modality, 1-Lipschitz in its real data.

    Args:
      modality: its units.
      dim: width of the codes.
      rngs: draws the weights.
    """

    def __init__(self, modality: Modality, dim: int, rngs: nnx.Rngs):
        ids = modality.kind == "token id"
        self.lookup = nnx.Embed(modality.layout[1], dim, rngs=rngs) if ids else None
        rows = None if ids else unit_rows(modality)
        self.rows = rows
        self.shrink = rows.copies**-0.5 if isinstance(rows, GatheredRows) else 1.0
        self.enter = Contraction(dim if rows is None else rows.size, dim, rngs)
        normal = nnx.initializers.normal(0.02)
        positions = 1 if modality.kind == "node" else modality.units
        self.position = nnx.Param(normal(rngs.params(), (positions, dim)))

    def __call__(self, data: PyTree) -> Float[Array, "units dim"]:
        """Codes of the units of one example."""
        if self.lookup is not None:
            rows = self.lookup(data)
        else:
            assert self.rows is not None
            rows = self.shrink * self.rows.split(data)
        return self.enter(rows) + self.position[...]


class CertifiableNetwork(nnx.Module):
    """Scores of all units with ``||E(x') - E(x)||_2 <= lipschitz ||x' - x||_2`` everywhere.

    ``E_m = sum_k sign(c_mk) P(r_m^k, |c_mk|) + leak sum_k r_m^k``, with P the projection onto the
    L1 ball. A unit is of one kind k at a time, so the sum adds no factor, and with ``s_r`` and
    ``s_c`` the Lipschitz constants of all evidence r and all masses c:
    ``lipschitz = sqrt(s_r^2 + s_c^2) + leak s_r``. How it is split between them is learned.

    Args:
      modalities: by name. Token ids have no distance: the certificate is for the real ones.
      outputs: how many targets there are.
      lipschitz: the certificate, in outputs of the model per unit of the data.
      dim: width of the codes; even.
      depth: layers of the units and of the summary, each.
      kinds: K.
      rngs: draws the weights.

    Raises:
      InputError: a setting that can't be used, or a modality whose shape is not known.
    """

    def __init__(
        self,
        modalities: dict[str, Modality],
        outputs: int,
        *,
        lipschitz: float = 3.0,
        dim: int = 64,
        depth: int = 2,
        kinds: int = 4,
        rngs: nnx.Rngs,
    ):
        check_modalities(modalities)
        if dim < 2 or dim % 2 or min(outputs, depth, kinds) < 1 or lipschitz <= 0:
            raise InputError(
                "dim, outputs, depth, kinds, lipschitz",
                f"are {dim}, {outputs}, {depth}, {kinds}, {lipschitz}",
                "use an even dim, 1 or more, and a positive constant",
            )
        names = sorted(modalities)
        self.units = tuple((name, modalities[name].units) for name in names)
        self.real = tuple(n for n in names if modalities[n].kind != "token id")
        self.lipschitz, self.kinds = lipschitz, kinds
        self.readers = nnx.Dict({n: Reader(modalities[n], dim, rngs) for n in names})
        self.unit_target = nnx.Embed(outputs, dim, rngs=rngs)
        self.target = nnx.Embed(outputs, dim, rngs=rngs)
        self.unit_layers = nnx.List([Contraction(dim, dim, rngs) for _ in range(depth)])
        self.evidence = Contraction(dim, kinds, rngs)
        self.gather = Contraction(2 * dim * len(names), dim, rngs)
        self.layers = nnx.List([Contraction(dim, dim, rngs) for _ in range(depth)])
        self.masses = Contraction(dim, kinds * len(names), rngs)
        self.split = nnx.Param(jnp.zeros(()))

    def scales(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """``(s_r, s_c)``: the Lipschitz constants of all evidence and of all masses."""
        angle = 0.25 * jnp.pi * (1 + 0.9 * jnp.tanh(self.split[...]))
        r, c = jnp.cos(angle), jnp.sin(angle)
        whole = self.lipschitz / (1 + LEAK * r)  # r^2 + c^2 = 1
        return whole * r, whole * c

    def certificate(self) -> dict[str, Float[Array, ""]]:
        """Upper bounds, over all inputs, of the L2 slope of E_n in x_m for every pair "n<-m".

        ``"all"`` bounds the slope of all scores in all real inputs together.
        """
        r, c = self.scales()
        own = jnp.sqrt(r**2 + c**2) + LEAK * r
        names = [n for n, _ in self.units]
        out = {pair(n, m): own if n == m else c for n, m in pairs(names) if m in self.real}
        return out | {"all": own}

    def evidence_and_masses(
        self, inputs: Inputs, target: Target, two: Callable[[Array], Array] = largest_two
    ) -> tuple[dict[str, Float[Array, "_ K"]], dict[str, Float[Array, "K"]]]:
        """What is projected, the evidence r of each unit, and onto which ball, the masses c.

        Args:
          inputs: of one example.
          target: the output that is explained.
          two: the two largest of each column; the same by other operations, to be bounded.
        """
        counts, target = dict(self.units), jnp.asarray(target)
        units = jnp.concatenate([self.readers[n](inputs[n]) for n in counts])
        units = max_min(units + self.unit_target(target))
        for layer in self.unit_layers:
            units = max_min(layer(units))
        pooled = jnp.concatenate([two(p) for p in unflatten(units, counts).values()])
        summary = max_min(self.gather(pooled) + self.target(target))
        for layer in self.layers:
            summary = max_min(layer(summary))

        r, c = self.scales()
        kinds = unflatten(distinct(self.evidence(units)) * (r / 2**0.5), counts)
        masses = (c * self.masses(summary)).reshape(len(counts), self.kinds)
        return kinds, dict(zip(counts, masses, strict=True))

    def __call__(self, inputs: Inputs, target: Target) -> Scores:
        """Scores ``{m: [units_m]}`` of one example."""
        check_target(target, self.target.num_embeddings)
        kinds, masses = self.evidence_and_masses(inputs, target)
        return {
            name: jnp.sum(jax.vmap(project_l1)(kinds[name].T, masses[name]), 0)
            + LEAK * jnp.sum(kinds[name], 1)
            for name, _ in self.units
        }
