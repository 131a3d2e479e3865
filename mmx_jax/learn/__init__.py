"""Learns an explainer: one network for all modalities and targets, trained on the desiderata.

The losses are the formulas of :mod:`mmx_jax.desiderata` on soft gates, so what is trained is what
is judged. What comes out is an ordinary explainer that never calls the model.
"""

from mmx_jax.learn.build import NetworkSettings, build_network
from mmx_jax.learn.certifiable import CertifiableNetwork
from mmx_jax.learn.constraints import Balance, check_constants
from mmx_jax.learn.evaluation import HeldOut, hold_out
from mmx_jax.learn.journal import read_config
from mmx_jax.learn.losses import Demands, desiderata_losses
from mmx_jax.learn.network import ExplainerNetwork, LearnedExplainer, as_explainer
from mmx_jax.learn.objectives import DESIDERATA_WEIGHTS, Desiderata, constrained, weighed
from mmx_jax.learn.published import CXPlain, FastSHAP
from mmx_jax.learn.recipe import Recipe, fit, load
from mmx_jax.learn.selectors import INVASE, L2X, SelectingNetwork
from mmx_jax.learn.settings import Settings
from mmx_jax.learn.stability import stability_losses
from mmx_jax.learn.train import DivergedError, Trained, train_explainer

__all__ = [
    "DESIDERATA_WEIGHTS",
    "INVASE",
    "L2X",
    "Balance",
    "CXPlain",
    "CertifiableNetwork",
    "Demands",
    "Desiderata",
    "DivergedError",
    "ExplainerNetwork",
    "FastSHAP",
    "HeldOut",
    "LearnedExplainer",
    "NetworkSettings",
    "Recipe",
    "SelectingNetwork",
    "Settings",
    "Trained",
    "as_explainer",
    "build_network",
    "check_constants",
    "constrained",
    "desiderata_losses",
    "fit",
    "hold_out",
    "load",
    "read_config",
    "stability_losses",
    "train_explainer",
    "weighed",
]
