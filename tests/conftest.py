"""Fixtures for all rooms; shapes and types of the whole package are checked while tests run."""

import os
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
if "XLA_FLAGS" not in os.environ:
    # tests compile far more than they compute: optimising less makes them more than twice as fast
    quick = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
    if version("jaxlib").startswith("0.10."):  # later versions stop at flags they don't know
        quick.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join([*quick, "--xla_cpu_parallel_codegen_split_count=1"])

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("mmx_jax", "typecheck.check")

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
