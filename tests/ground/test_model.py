"""Models: wrapping, links, splitting, edit sites, and clear refusals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmx_jax import SplitModel, as_model, check_model, edit, read, sites
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.model import Link, check_target, link_of

pytestmark = pytest.mark.fast


class Net(nnx.Module):
    """Dropout and batch norm behave differently in training, so evaluation mode shows."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, inputs, site=lambda name, value: value):
        hidden = site("hidden", self.linear(inputs["x"]))
        return site("out", self.dropout(self.norm(hidden[None])[0]))


X = {"x": jnp.array([1.0, -2.0, 0.5])}


def test_modules_run_in_evaluation_mode_and_stay_as_they_were():
    net = Net(nnx.Rngs(0))
    model = as_model(net)
    expected = net.linear(X["x"]) / jnp.sqrt(1 + net.norm.epsilon)
    chex.assert_trees_all_close(model(X), expected, rtol=1e-5)
    chex.assert_trees_all_equal(model(X), model(X))
    assert not net.dropout.deterministic
    chex.assert_trees_all_close(jax.jit(lambda m, x: m(x))(model, X), expected, rtol=1e-5)


def test_weights_are_leaves_and_differentiable():
    model = as_model(Net(nnx.Rngs(0)))
    slope = jax.grad(lambda m: m(X).sum(), allow_int=True)(model)
    found = nnx.to_pure_dict(slope.state)["linear"]["kernel"]
    assert np.allclose(found, np.outer(X["x"], np.ones(4)) / np.sqrt(1 + 1e-5), rtol=1e-4)


def test_other_weights_do_not_trace_again():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(model, x):
        return model(x)

    for seed in range(3):
        run(as_model(Net(nnx.Rngs(seed))), X)
    chex.clear_trace_counter()


def test_links():
    raw = jnp.array([0.3, -1.0, 2.0])
    p = jax.nn.softmax(raw)
    assert np.allclose(Link("softmax")(raw), p)
    assert np.allclose(Link("log-odds")(raw), jnp.log(p / (1 - p)), atol=1e-5)
    assert np.allclose(Link("identity")(raw), raw)
    with pytest.raises(UnknownNameError, match="softmax"):
        Link("sofmax")
    model = as_model(lambda inputs: inputs["x"], link="log-odds")
    assert link_of(model) == "log-odds"
    assert np.allclose(as_model(model, link="softmax")(X), jax.nn.softmax(X["x"]))
    assert link_of(lambda x: x) == "identity"


def test_partial_functions_keep_their_arrays_as_leaves():
    weight = jnp.arange(3.0)
    model = as_model(jax.tree_util.Partial(lambda w, inputs: w * inputs["x"], weight))
    assert len(jax.tree.leaves(model)) == 1
    assert np.allclose(model(X), weight * X["x"])


def test_split_models_compose():
    split = SplitModel({"x": jnp.tanh, "y": jnp.sin}, lambda codes: codes["x"] * codes["y"])
    x = {"x": jnp.ones(2), "y": jnp.full(2, 0.5)}
    assert np.allclose(split(x), np.tanh(1) * np.sin(0.5))


def test_sites_are_read_and_replaced():
    model = as_model(Net(nnx.Rngs(0)), link="softmax")
    outputs, seen = read(model, X)
    chex.assert_trees_all_equal(outputs, model(X))
    assert {n: s.shape for n, s in sites(model, X).items()} == {"hidden": (4,), "out": (4,)}
    chex.assert_trees_all_equal(edit(model, X, {"hidden": seen["hidden"]}), outputs)
    chex.assert_trees_all_close(edit(model, X, {"out": lambda v: 0 * v}), jnp.full(4, 0.25))
    doubled = jax.jit(lambda m, x: edit(m, x, {"hidden": lambda v: 2 * v}))(model, X)
    chex.assert_trees_all_close(doubled, jax.nn.softmax(2 * seen["out"]), rtol=1e-4)


def test_sites_that_do_not_exist_or_fit():
    model = as_model(Net(nnx.Rngs(0)))
    with pytest.raises(UnknownNameError, match="hidden"):
        edit(model, X, {"hiden": 0.0})
    with pytest.raises(InputError, match="shape"):
        edit(model, X, {"hidden": jnp.zeros(7)})
    with pytest.raises(InputError, match="no edit sites"):
        read(as_model(lambda inputs: inputs["x"]), X)


def test_two_sites_of_one_name_are_refused():
    def fn(inputs, site):
        return site("a", site("a", inputs["x"]))

    with pytest.raises(InputError, match="two sites"):
        read(as_model(fn), X)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda inputs: inputs["x"].sum(), "vector of outputs"),
        (lambda inputs: inputs["x"][None], "vector of outputs"),
        (lambda inputs: {"a": inputs["x"]}, "vector of outputs"),
        (lambda inputs: inputs["x"].astype(int), "real numbers"),
        (lambda inputs: inputs["x"] / 0, "NaN or infinite"),
    ],
)
def test_models_that_are_none(fn, message):
    with pytest.raises(InputError, match=message):
        check_model(as_model(fn), X)


def test_targets():
    assert check_model(as_model(lambda inputs: inputs["x"]), X, target=2) == 3
    for bad in (-1, 3, np.array([0, 7])):
        with pytest.raises(InputError, match="0 to 2"):
            check_target(bad, 3)
    with pytest.raises(InputError, match="integers"):
        check_target(np.array([0.5]), 3)
    with pytest.raises(InputError, match="module or a function"):
        as_model(3)


def test_a_model_keeps_its_link_unless_told_otherwise():
    model = as_model(lambda inputs: inputs["x"], link="softmax")
    assert link_of(as_model(model)) == "softmax"
    assert link_of(as_model(model, "identity")) == "identity"
    assert link_of(as_model(lambda inputs: inputs["x"])) == "identity"
