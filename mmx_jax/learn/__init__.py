"""Learns an explainer: one network for all modalities and targets, trained on the desiderata.

The losses are the formulas of :mod:`mmx_jax.desiderata` on soft gates, so what is trained is what
is judged. What comes out is an ordinary explainer that never calls the model.
"""

from mmx_jax.learn.certifiable import CertifiableNetwork
from mmx_jax.learn.constraints import Balance, check_constants
from mmx_jax.learn.evaluation import HeldOut, hold_out
from mmx_jax.learn.losses import Demands, desiderata_losses
from mmx_jax.learn.network import ExplainerNetwork, LearnedExplainer, as_explainer
from mmx_jax.learn.objectives import DESIDERATA_WEIGHTS, Desiderata
from mmx_jax.learn.recipe import NetworkSettings, Recipe, build_network, fit, load
from mmx_jax.learn.settings import Settings
from mmx_jax.learn.stability import stability_losses
from mmx_jax.learn.train import DivergedError, Trained, train_explainer

__all__ = [
    "DESIDERATA_WEIGHTS",
    "Balance",
    "CertifiableNetwork",
    "Demands",
    "Desiderata",
    "DivergedError",
    "ExplainerNetwork",
    "HeldOut",
    "LearnedExplainer",
    "NetworkSettings",
    "Recipe",
    "Settings",
    "Trained",
    "as_explainer",
    "build_network",
    "check_constants",
    "desiderata_losses",
    "fit",
    "hold_out",
    "load",
    "stability_losses",
    "train_explainer",
]
