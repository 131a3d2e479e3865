"""Sound bounds of how much an explanation can change, for any pure JAX function."""

from mmx_jax.certify.activations import act
from mmx_jax.certify.deviation import DeviationBounds, deviation_bounds
from mmx_jax.certify.lift import LiftedModel, lift
from mmx_jax.certify.lipschitz import explanation_bounds, lipschitz_bounds
from mmx_jax.certify.program import METHODS
from mmx_jax.certify.results import CertificateError, LipschitzBounds
from mmx_jax.certify.rules import add_rule, bilinear, linear, unary

__all__ = [
    "METHODS",
    "CertificateError",
    "DeviationBounds",
    "LiftedModel",
    "LipschitzBounds",
    "act",
    "add_rule",
    "bilinear",
    "deviation_bounds",
    "explanation_bounds",
    "lift",
    "linear",
    "lipschitz_bounds",
    "unary",
]
