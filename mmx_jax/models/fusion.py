"""A fusion transformer: every modality's units become tokens of one sequence."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmx_jax.checks import check_modalities
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.modality import Modality
from mmx_jax.model import Site, ignore
from mmx_jax.models.embedding import Embedding
from mmx_jax.models.two_stage import TwoStage

__all__ = ["Block", "FusionTransformer", "Mixer"]


class Block(nnx.Module):
    """One pre-norm transformer layer (Xiong et al., *On layer normalization*, 2020).

    ``h = x + attention(norm(x))``, ``y = h + mlp(norm(h))``. Sites: ``<name>/pattern``
    ``[heads, T, T]``, ``<name>/attention``, ``<name>/mlp`` and ``<name>/residual`` ``[T, dim]``.

    Args:
      name: prefix of its sites.
      dim: width of the tokens.
      heads: attention heads; they must divide ``dim``.
      hidden: width of the mlp.
      rngs: draws the weights.
    """

    def __init__(self, name: str, dim: int, heads: int, hidden: int, rngs: nnx.Rngs):
        self.name, self.heads = name, heads
        self.before_attention = nnx.LayerNorm(dim, rngs=rngs)
        self.query_key_value = nnx.Linear(dim, 3 * dim, rngs=rngs)
        self.out = nnx.Linear(dim, dim, rngs=rngs)
        self.before_mlp = nnx.LayerNorm(dim, rngs=rngs)
        self.widen = nnx.Linear(dim, hidden, rngs=rngs)
        self.narrow = nnx.Linear(hidden, dim, rngs=rngs)

    def __call__(self, x: Float[Array, "T dim"], site: Site = ignore) -> Float[Array, "T dim"]:
        """The tokens after the layer."""
        length, dim = x.shape
        projected = self.query_key_value(self.before_attention(x))
        q, k, v = jnp.moveaxis(projected.reshape(length, 3, self.heads, -1), 1, 0)
        logits = jnp.einsum("qhd,khd->hqk", q, k) / (dim // self.heads) ** 0.5
        pattern = site(f"{self.name}/pattern", jax.nn.softmax(logits, -1))
        mixed = jnp.einsum("hqk,khd->qhd", pattern, v).reshape(length, dim)
        x = x + site(f"{self.name}/attention", self.out(mixed))
        hidden = jax.nn.gelu(self.widen(self.before_mlp(x)))
        x = x + site(f"{self.name}/mlp", self.narrow(hidden))
        return site(f"{self.name}/residual", x)


class Mixer(nnx.Module):
    """Concatenates tokens in sorted order of their modalities, mixes them, and reads them out.

    Args:
      outputs: how many raw outputs.
      dim: width of the tokens.
      layers: how many blocks, shared by all modalities.
      heads: attention heads.
      hidden: width of the mlps.
      pool: ``"mean"`` over tokens, or ``"cls"``, a learned token of its own.
      rngs: draws the weights.
    """

    def __init__(
        self,
        outputs: int,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        pool: str,
        rngs: nnx.Rngs,
    ):
        if pool not in ("mean", "cls"):
            raise UnknownNameError("pool", pool, ["mean", "cls"])
        if heads < 1 or dim % heads:
            raise InputError("heads", f"is {heads} for width {dim}", "use a divisor of the width")
        normal = nnx.initializers.normal(0.02)
        self.cls = nnx.Param(normal(rngs.params(), (1, dim))) if pool == "cls" else None
        self.blocks = nnx.List(
            [Block(f"block{i}", dim, heads, hidden, rngs) for i in range(layers)]
        )
        self.norm = nnx.LayerNorm(dim, rngs=rngs)
        self.head = nnx.Linear(dim, outputs, rngs=rngs)

    def __call__(
        self, codes: dict[str, Float[Array, "_ dim"]], site: Site = ignore
    ) -> Float[Array, "outputs"]:
        """Raw outputs of the tokens of each modality."""
        tokens = [codes[name] for name in sorted(codes)]
        x = jnp.concatenate(tokens if self.cls is None else [self.cls[...], *tokens])
        for block in self.blocks:
            x = block(x, site)
        pooled = jnp.mean(x, 0) if self.cls is None else x[0]
        return self.head(self.norm(site("pooled", pooled)))


class FusionTransformer(TwoStage):
    """A transformer over the units of two or more modalities of any kind, with edit sites.

    Sites: ``embedding/<modality>``, those of every :class:`Block` (``block0/...``), ``pooled``.

    Args:
      modalities: by name; see :class:`~mmx_jax.models.embedding.Embedding`.
      outputs: how many raw outputs (logits).
      dim: width of the tokens.
      layers: how many blocks.
      heads: attention heads.
      hidden: width of the mlps; twice ``dim`` if None.
      pool: ``"mean"`` or ``"cls"``.
      rngs: draws the weights.

    Raises:
      InputError: one modality alone, or one that can't be embedded.

    >>> modalities = {"image": Modality.patches((8, 8), 2), "note": Modality.token_ids(6, 20)}
    >>> net = FusionTransformer(modalities, outputs=10, rngs=nnx.Rngs(0))
    >>> net({"image": jnp.ones((8, 8)), "note": jnp.zeros(6, int)}).shape
    (10,)
    """

    def __init__(
        self,
        modalities: dict[str, Modality],
        outputs: int,
        *,
        dim: int = 32,
        layers: int = 2,
        heads: int = 4,
        hidden: int | None = None,
        pool: str = "mean",
        rngs: nnx.Rngs,
    ):
        check_modalities(modalities)
        if len(modalities) < 2:
            raise InputError("modalities", f"are {len(modalities)}", "give two or more")
        names = sorted(modalities)
        self.encoders = nnx.Dict({n: Embedding(n, modalities[n], dim, rngs) for n in names})
        self.fusion = Mixer(outputs, dim, layers, heads, hidden or 2 * dim, pool, rngs)
