"""Maps: the same results for every chunking and device count, flat memory, one trace per shape."""

import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmx_jax import mapping
from mmx_jax.errors import InputError
from mmx_jax.typing import record, static

pytestmark = pytest.mark.fast


def temporary_bytes(fn, *args):
    return jax.jit(fn).lower(*args).compile().memory_analysis().temp_size_in_bytes


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12))
def test_chunking_changes_nothing(count, chunk):
    xs = jnp.arange(count) ** 2
    chex.assert_trees_all_equal(mapping.map_stacked(lambda x: 2 * x, xs, chunk=chunk), 2 * xs)
    assert mapping.accumulate(lambda i: xs[i], count, chunk) == xs.sum()


@pytest.mark.parametrize("count", [1, 7, 50, 97])
def test_every_term_is_computed_once(count):
    calls = []

    def fn(i):
        jax.debug.callback(lambda _: calls.append(1), i)
        return i

    jax.block_until_ready(mapping.accumulate(fn, count, chunk=16))
    jax.effects_barrier()
    assert len(calls) == count


def test_memory_is_flat_in_the_number_of_terms(key):
    weights = jax.random.normal(key, (64, 64))

    def work(count):
        def term(i):
            return jnp.tanh(weights * i) @ weights

        return temporary_bytes(lambda: mapping.mean_over(term, count, chunk=4))

    assert work(4096) <= work(64) * 1.01

    def slope(count):  # reverse mode recomputes: it stores a counter per step, never a term
        def loss(x):
            return mapping.mean_over(lambda i: jnp.tanh(weights @ x * i).sum(), count, chunk=4)

        return temporary_bytes(jax.grad(loss), weights)

    assert slope(4096) - slope(64) <= 16 * 4096 / 4


def test_gradients_pass_through():
    slope = jax.grad(lambda x: mapping.mean_over(lambda i: x**2 * i, 5, chunk=2))(3.0)
    assert np.isclose(slope, 2 * 3 * 2)


@record
class Affine:
    """A callable pytree, as explainers are."""

    weight: jax.Array
    power: int = static(default=2)

    def __call__(self, x, shift):
        return {"y": self.weight * x**self.power + shift}


def test_examples_in_chunks_equal_one_vmap():
    x, shift = np.arange(23.0, dtype=np.float32), jnp.float32(3)
    for chunk in (1, 5, 23, 64):
        out = mapping.map_examples(Affine(jnp.array(2.0)), x, shift, in_axes=(0, None), chunk=chunk)
        assert np.array_equal(out["y"], 2 * x**2 + 3)


def test_one_trace_for_all_chunks_and_weights():
    def fn(weight, x):
        return weight * x

    counted = chex.assert_max_traces(fn, n=1)
    for weight in (1.0, 2.0):
        out = mapping.map_examples(
            counted, jnp.float32(weight), np.ones(10, np.float32), in_axes=(None, 0), chunk=4
        )
        assert (out == weight).all()
    chex.clear_trace_counter()


def test_progress_reports_every_chunk():
    seen = []
    mapping.map_examples(lambda x: x, np.ones(10), chunk=4, progress=lambda *p: seen.append(p[:2]))
    assert seen == [(4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ((np.zeros((0, 2)),), {}, "zero examples"),
        ((np.zeros(2), np.zeros(3)), {}, "common number"),
        ((np.zeros(2),), {"chunk": 0}, "positive"),
        ((np.zeros(2),), {"in_axes": 1}, "in_axes"),
        ((np.zeros(2),), {"in_axes": (0, 0)}, "entries"),
        ((np.float32(2),), {}, "common number"),
    ],
)
def test_bad_batches(batches, options, message):
    with pytest.raises(InputError, match=message):
        mapping.map_examples(lambda *x: x, *batches, **options)


def test_bad_numbers():
    with pytest.raises(InputError, match="chunk"):
        mapping.accumulate(lambda i: i, 4, chunk=0)
    with pytest.raises(InputError, match="count"):
        mapping.mean_over(lambda i: i, 0)
    with pytest.raises(InputError, match="devices"):
        mapping.example_mesh(jax.device_count() + 1)


def test_eight_devices_agree_with_one():
    script = """
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
        import jax, numpy as np
        from mmx_jax import derive_keys, example_mesh, map_examples
        assert jax.device_count() == 8
        def fn(w, x, key):
            return {"y": x @ w + jax.random.normal(key, (3,))}
        w, x = np.ones((3, 3), np.float32), np.random.rand(21, 3).astype("f")
        keys = derive_keys(0, "t", 21)
        one = map_examples(fn, w, x, keys, in_axes=(None, 0, 0))["y"]
        for chunk in (None, 5):
            many = map_examples(
                fn, w, x, keys, in_axes=(None, 0, 0), chunk=chunk, mesh=example_mesh()
            )["y"]
            assert many.shape == (21, 3)
            np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-6)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_means_of_many_terms_hold_in_half_precision(dtype):
    mean = mapping.mean_over(lambda i: jnp.full((), 3, dtype) + 0 * i.astype(dtype), 4096, chunk=64)
    assert mean.dtype == dtype
    assert float(mean) == pytest.approx(3, rel=1e-2)


def test_indices_are_int32_in_double_precision(x64):
    assert int(mapping.accumulate(lambda i: i, 101, chunk=4)) == 5050
