"""Networks of two stages: an encoder per modality, then one fusion of all codes."""

from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from mmx_jax.errors import InputError
from mmx_jax.model import Link, Site, SplitModel, as_callable, as_model, ignore
from mmx_jax.typing import Inputs

__all__ = ["TwoStage", "split"]


class TwoStage(nnx.Module):
    """``fusion({m: encoders[m](x_m)})`` for one example, without a batch axis.

    Attributes:
      encoders: a module ``(data, site) -> code`` per modality.
      fusion: a module ``(codes, site) -> raw outputs``.
    """

    encoders: nnx.Dict
    fusion: Any

    def __call__(self, inputs: Inputs, site: Site = ignore) -> Float[Array, "outputs"]:
        """Raw outputs; every named activation passes through ``site(name, value)``."""
        codes = {name: self.encoders[name](inputs[name], site) for name in sorted(self.encoders)}
        return self.fusion(codes, site)


def split(module: nnx.Module, link: str | Link = "identity") -> SplitModel:
    """The module as a :class:`~mmx_jax.model.SplitModel`, with the same outputs.

    Coalitions of modalities then share the encodings.

    Args:
      module: of this package's networks.
      link: ``"identity"``, ``"softmax"`` or ``"log-odds"``.
    """
    if not isinstance(module, TwoStage):
        raise InputError(
            "module",
            f"is {type(module).__name__}",
            "build a SplitModel of its encoders and its fusion",
        )
    encoders = {name: as_callable(module.encoders[name]) for name in sorted(module.encoders)}
    model = as_model(SplitModel(encoders, as_callable(module.fusion)), link)
    assert isinstance(model, SplitModel)
    return model
