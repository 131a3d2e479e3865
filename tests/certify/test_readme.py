"""What users bring: a flax model of their own, and a primitive that the analysis does not know."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from mmx_jax.errors import InputError


def test_a_flax_model_of_ones_own():
    import mmx_jax
    from mmx_jax import certify

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.norm, self.out = nnx.LayerNorm(4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.gelu(self.norm(x["sound"] * x["table"])))

    model = mmx_jax.as_model(Net(nnx.Rngs(0)))
    inputs = {"sound": jnp.array([1.0, -2.0, 0.5, 0.1]), "table": jnp.arange(1.0, 5.0)}
    fn = lambda x: {"logits": certify.lift(model, inputs)(x)}  # noqa: E731
    bounds = certify.lipschitz_bounds(fn, inputs, 0.01, method="full", restarts=0).check()
    assert bounds.lifted
    assert all(bounds.certified[p] <= 1.3 * bounds.point[p] for p in bounds.point)


def test_a_primitive_of_ones_own():
    swap_p = Primitive("swap_halves")
    swap_p.def_impl(lambda x: jnp.roll(x, x.shape[-1] // 2, -1))
    swap_p.def_abstract_eval(lambda x: x)
    mlir.register_lowering(swap_p, mlir.lower_fun(swap_p.impl, multiple_results=False))
    ad.deflinear(swap_p, lambda t: [swap_p.bind(t)])
    batching.primitive_batchers[swap_p] = lambda a, d: (
        swap_p.bind(jnp.moveaxis(a[0], d[0], 0)),
        0,
    )

    def fn(x):
        return {"y": jnp.sin(swap_p.bind(x["a"])) * x["a"]}

    from mmx_jax import certify

    x = {"a": jnp.array([0.3, -1.0, 0.4, 2.0])}
    with pytest.raises(InputError, match="'swap_halves'"):
        certify.lipschitz_bounds(fn, x, 0.05, restarts=0)

    def swapped(scope, params, x):
        return certify.linear(x, lambda v: jnp.roll(v, v.shape[-1] // 2, -1))

    certify.add_rule("swap_halves", swapped)

    bounds = certify.lipschitz_bounds(fn, x, 0.05, method="affine", restarts=0).check()
    jacobian = jax.jacobian(lambda a: fn({"a": a})["y"])(x["a"])

    np.testing.assert_allclose(bounds.point["y", "a"], np.linalg.norm(jacobian, 2), rtol=1e-5)
    assert bounds.point["y", "a"] <= bounds.certified["y", "a"] <= 1.2 * bounds.point["y", "a"]
