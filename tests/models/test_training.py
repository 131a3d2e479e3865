"""Training: it learns, gives the same bits again, leaves the caller's module alone, stays short."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmx_jax import FeatureGates, Modality, as_model
from mmx_jax.errors import InputError
from mmx_jax.models import (
    FusionTransformer,
    Incomplete,
    LateFusion,
    Resample,
    accuracy,
    train,
    training,
)
from mmx_jax.tasks import digits, xor


def leaves(module):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(module))]


@pytest.fixture(scope="module")
def task():
    return digits(0)


@pytest.fixture(scope="module")
def held_out(task):
    return jax.jit(task.sample, static_argnums=1)(jax.random.key(1), 400)


def test_the_transformer_reads_digits_within_seconds(task, held_out):
    net = FusionTransformer(task.modalities, task.outputs, rngs=nnx.Rngs(0))
    net, history = train(net, task.sample_training, held_out, steps=300, blocks=4)
    assert history.loss.shape == (300,)
    assert history.accuracy.shape == (4,)
    assert history.accuracy[-1] > 0.9
    measured = accuracy(as_model(net), held_out.inputs, held_out.labels)
    assert measured == pytest.approx(history.accuracy[-1], abs=0.01)


def test_a_seed_gives_the_same_bits_again_and_the_module_given_stays_as_it_was():
    task = xor(0)
    held_out = task.sample(jax.random.key(1), 64)
    net = LateFusion(task.modalities, 2, rngs=nnx.Rngs(0))
    before = leaves(net)
    runs = [train(net, task.sample_training, held_out, steps=6, blocks=2) for _ in range(2)]
    for a, b in zip(leaves(runs[0][0]), leaves(runs[1][0]), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(runs[0][1].loss, runs[1][1].loss)
    for a, b in zip(before, leaves(net), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(before, leaves(runs[0][0]), strict=True))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, inputs):
        return self.linear(inputs["x"])


def test_arrays_and_functions_are_samplers_and_progress_is_told():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int32)
    told = []
    settings = {"steps": 100, "blocks": 2, "learning_rate": 0.05}
    data, held_out = Resample({"x": x}, labels), ({"x": x}, labels)
    net, history = train(
        Net(nnx.Rngs(0)), data, held_out, progress=lambda *a: told.append(a), **settings
    )
    assert history.accuracy[-1] > 0.97
    assert [(done, steps) for done, steps, _, _ in told] == [(50, 100), (100, 100)]
    assert [hit for *_, hit in told] == history.accuracy.tolist()
    assert accuracy(as_model(net), {"x": x}, labels, chunk=77) == pytest.approx(
        history.accuracy[-1], abs=1e-6
    )

    def draw(key, n):  # a plain function is a sampler too
        return data(key, n)

    same, _ = train(Net(nnx.Rngs(0)), draw, held_out, **settings)
    np.testing.assert_allclose(same.linear.kernel[...], net.linear.kernel[...], atol=1e-6)
    _, other = train(Net(nnx.Rngs(0)), data, held_out, seed=1, **settings)
    assert not np.array_equal(other.loss, history.loss)


def test_resample_draws_matching_rows_evenly():
    data = Resample({"x": {"a": jnp.arange(5.0)}}, jnp.arange(5))
    inputs, labels = data(jax.random.key(0), 2000)
    np.testing.assert_array_equal(inputs["x"]["a"], labels)
    assert np.bincount(labels, minlength=5).min() > 330


def test_the_loop_stays_short():
    assert len(inspect.getsource(training).splitlines()) < 80


def test_state_and_zero_steps_are_refused():
    net, held_out = Net(nnx.Rngs(0)), ({"x": np.zeros((4, 4), np.float32)}, np.zeros(4, int))
    with pytest.raises(InputError, match="steps, blocks, batch are"):
        train(net, Resample(*held_out), held_out, steps=0)
    net.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="state beside its weights"):
        train(net, Resample(*held_out), held_out, steps=1)


def test_incomplete_examples_lack_the_units_that_it_says():
    modalities = {
        "x": Modality.columns(8).with_reference(-jnp.ones(8)),
        "ids": Modality.token_ids(4, 9),
    }
    rows = {"x": jnp.ones((1, 8)), "ids": jnp.full((1, 4), 5)}
    sample = Incomplete(FeatureGates(modalities), Resample(rows, jnp.array([3])), modality=0.2)
    inputs, labels = jax.jit(sample, static_argnums=1)(jax.random.key(0), 20_000)
    assert inputs["x"].shape == (20_000, 8)
    assert (labels == 3).all()
    x, ids = inputs["x"] == 1, inputs["ids"] == 5
    assert np.isin(inputs["x"], (-1, 1)).all()  # whole or at the reference, nothing between
    # P(all of 8 units) = .8 (1/2 + 1/2 int_0^1 p^8 dp); P(none) = .2 + .8 / 2 * 1/9
    assert abs(x.all(1).mean() - 0.8 * (0.5 + 0.5 / 9)) < 0.02
    assert abs((~x).all(1).mean() - (0.2 + 0.8 * 0.5 / 9)) < 0.02
    # modalities are missing independently, but units at one rate p per example
    both = 0.5 * (0.2**2 + 0.2**2 + 0.16 / 9 + 0.16 / 5 + 0.64 / 13)
    assert abs(((~x).all(1) & (~ids).all(1)).mean() - both) < 0.01


def test_incomplete_examples_take_every_reference_draw():
    donors = jnp.arange(4.0)[:, None] * jnp.ones(2)
    columns = Modality.columns(2).with_marginal(donors, 4, jax.random.key(1))
    sample = Incomplete(
        FeatureGates({"x": columns}), Resample({"x": jnp.full((1, 2), 9.0)}, jnp.zeros(1, int)), 1.0
    )
    inputs, _ = sample(jax.random.key(0), 200)
    assert set(np.unique(inputs["x"])) == {0.0, 1.0, 2.0, 3.0}
    with pytest.raises(InputError, match="probability"):
        Incomplete(FeatureGates({"x": columns}), sample, 1.5)
