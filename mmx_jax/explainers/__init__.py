"""Explainers: frozen callable pytrees ``explainer(model, inputs, target, key) -> scores``.

All take ``modalities`` first (inputs that are no modality of theirs stay as they are) and state
``evaluations``, the number of model calls of one explanation: a gradient counts as one, a gated
value takes one per reference draw. A :class:`~mmx_jax.model.SplitModel` needs fewer encodings.
"""

from mmx_jax.explainers.composite import Composite, Rescaled
from mmx_jax.explainers.controls import (
    Constant,
    EdgeDetector,
    Random,
    ReferenceDetector,
    UniformMass,
)
from mmx_jax.explainers.gated import GatedNetwork
from mmx_jax.explainers.gradient import InputXGradient, Saliency, SmoothGrad
from mmx_jax.explainers.integrated import ExpectedGradients, IntegratedGradients
from mmx_jax.explainers.masks import ExtremalPerturbation, GNNExplainer
from mmx_jax.explainers.occlusion import RISE, FeaturePermutation, Occlusion
from mmx_jax.explainers.permutation import OwenShapley, PermutationShapley
from mmx_jax.explainers.shapley import ExactShapley, ModalityShapley, WithinShapley
from mmx_jax.explainers.spoiled import (
    ModalityBlind,
    OthersAtReference,
    PerInputNormalised,
    Smeared,
    WrongModel,
)
from mmx_jax.explainers.surrogate import LIME, KernelSHAP

__all__ = [
    "LIME",
    "RISE",
    "Composite",
    "Constant",
    "EdgeDetector",
    "ExactShapley",
    "ExpectedGradients",
    "ExtremalPerturbation",
    "FeaturePermutation",
    "GNNExplainer",
    "GatedNetwork",
    "InputXGradient",
    "IntegratedGradients",
    "KernelSHAP",
    "ModalityBlind",
    "ModalityShapley",
    "Occlusion",
    "OthersAtReference",
    "OwenShapley",
    "PerInputNormalised",
    "PermutationShapley",
    "Random",
    "ReferenceDetector",
    "Rescaled",
    "Saliency",
    "Smeared",
    "SmoothGrad",
    "UniformMass",
    "WithinShapley",
    "WrongModel",
]
