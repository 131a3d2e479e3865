"""Fixtures for all rooms; shapes and types of the whole package are checked while tests run."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("mmx_jax", "typecheck.check")

from mmx_jax.cli.console import compile_quickly  # noqa: E402 - after the hook, to be checked too

compile_quickly()  # tests compile far more than they compute
jax.config.update("jax_numpy_rank_promotion", "allow")


@pytest.fixture
def key():
    """A typed key; the same for every test."""
    return jax.random.key(0)


@pytest.fixture
def x64():
    """Double precision within one test."""
    with jax.enable_x64(True):
        yield
