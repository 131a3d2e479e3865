"""A late-fusion network: a code per modality, mixed only at the end."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.model import Site, ignore
from mmx_jax.models.two_stage import TwoStage

__all__ = ["Encoder", "FusionMLP", "LateFusion"]


class Encoder(nnx.Module):
    """A code of one modality: all of its entries (ids looked up first) through a small MLP.

    Sites: ``<name>/hidden`` and ``<name>/code``.

    Args:
      name: of the modality.
      modality: its data, by its reference.
      dim: width of the code, and of the vectors of ids.
      hidden: width of the hidden layer.
      rngs: draws the weights.
    """

    def __init__(self, name: str, modality: Modality, dim: int, hidden: int, rngs: nnx.Rngs):
        self.name = name
        entries = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(modality.reference_at(0)))
        ids = modality.kind == "token id"
        self.lookup = nnx.Embed(modality.layout[1], dim, rngs=rngs) if ids else None
        self.widen = nnx.Linear(entries * dim if ids else entries, hidden, rngs=rngs)
        self.narrow = nnx.Linear(hidden, dim, rngs=rngs)

    def __call__(self, data: PyTree, site: Site = ignore) -> Float[Array, "dim"]:
        """The code of one example."""
        leaves = [data if self.lookup is None else self.lookup(data)]
        flat = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(leaves)])
        hidden = site(f"{self.name}/hidden", jax.nn.gelu(self.widen(flat)))
        return site(f"{self.name}/code", self.narrow(hidden))


class FusionMLP(nnx.Module):
    """Raw outputs of the codes side by side, in sorted order. Sites: ``fusion/hidden``.

    Args:
      width: of all codes together.
      hidden: width of the hidden layer.
      outputs: how many raw outputs.
      rngs: draws the weights.
    """

    def __init__(self, width: int, hidden: int, outputs: int, rngs: nnx.Rngs):
        self.widen = nnx.Linear(width, hidden, rngs=rngs)
        self.head = nnx.Linear(hidden, outputs, rngs=rngs)

    def __call__(
        self, codes: dict[str, Float[Array, "dim"]], site: Site = ignore
    ) -> Float[Array, "outputs"]:
        """Raw outputs of the codes."""
        mixed = jnp.concatenate([codes[name] for name in sorted(codes)])
        return self.head(site("fusion/hidden", jax.nn.gelu(self.widen(mixed))))


class LateFusion(TwoStage):
    """An MLP per modality and one MLP over their codes, with edit sites.

    Sites: ``<modality>/hidden``, ``<modality>/code``, ``fusion/hidden``.

    Args:
      modalities: by name, of any kind.
      outputs: how many raw outputs (logits).
      dim: width of each code.
      hidden: width of the hidden layers.
      rngs: draws the weights.

    Raises:
      InputError: a modality whose reference is a scalar, so that its size is not known.

    >>> modalities = {"table": Modality.columns(5), "text": Modality.tokens(8, 8)}
    >>> net = LateFusion(modalities, outputs=3, rngs=nnx.Rngs(0))
    >>> net({"table": jnp.ones(5), "text": jnp.ones((8, 8))}).shape
    (3,)
    """

    def __init__(
        self,
        modalities: dict[str, Modality],
        outputs: int,
        *,
        dim: int = 32,
        hidden: int = 64,
        rngs: nnx.Rngs,
    ):
        check_modalities(modalities)
        for name, modality in modalities.items():
            if any(leaf.ndim == 0 for leaf in jax.tree.leaves(modality.reference_at(0))):
                raise InputError(
                    f"modalities[{name!r}]",
                    "has a scalar reference",
                    "give one of the data's shape, so that its size is known",
                )
        names = sorted(modalities)
        self.encoders = nnx.Dict({n: Encoder(n, modalities[n], dim, hidden, rngs) for n in names})
        self.fusion = FusionMLP(dim * len(names), hidden, outputs, rngs)
