"""Networks to explain, in flax NNX: one example in, raw outputs out, with edit sites."""

from mmx_jax.models.data import History, Incomplete, Resample, accuracy
from mmx_jax.models.fusion import FusionTransformer
from mmx_jax.models.late import LateFusion
from mmx_jax.models.training import train
from mmx_jax.models.two_stage import TwoStage, split

__all__ = [
    "FusionTransformer",
    "History",
    "Incomplete",
    "LateFusion",
    "Resample",
    "TwoStage",
    "accuracy",
    "split",
    "train",
]
