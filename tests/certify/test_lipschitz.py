"""The sandwich: against exact arithmetic, enumeration, nesting, and its behaviour under jit."""

import itertools
from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import certify
from mmx_jax.certify import deviation_bounds, explanation_bounds, lift, lipschitz_bounds
from mmx_jax.certify.region import Region
from mmx_jax.certify.rounding import margins
from mmx_jax.errors import InputError, UnknownNameError

QUICK = {"restarts": 4, "steps": 12}


def net(seed=0, sizes=(4, 6, 2), act=jnp.tanh):
    rng = np.random.default_rng(seed)
    weights = [
        jnp.asarray(rng.normal(size=s) * 1.2 / np.sqrt(s[0]), jnp.float32)
        for s in itertools.pairwise(sizes)
    ]

    def model(inputs):
        h = jnp.concatenate([inputs["a"], inputs["b"]])
        for w in weights[:-1]:
            h = act(h @ w)
        return h @ weights[-1]

    x = jnp.asarray(rng.normal(size=sizes[0]), jnp.float32)
    return model, {"a": x[: sizes[0] // 2], "b": x[sizes[0] // 2 :]}


def gradient(model, x, target, key):
    del key
    return jax.grad(lambda d: model(d)[target])(x)


def exact_product(matrices):
    """The product of float32 matrices in rational arithmetic."""
    out = [[Fraction(float(v)) for v in row] for row in np.asarray(matrices[0])]
    for m in matrices[1:]:
        right = [[Fraction(float(v)) for v in row] for row in np.asarray(m)]
        out = [
            [sum(a * right[k][j] for k, a in enumerate(row)) for j in range(len(right[0]))]
            for row in out
        ]
    return out


def linear_violations(on):
    """How many entries of deep linear nets lie outside the entry bounds at radius 0."""
    broken = entries = 0
    rng = np.random.default_rng(0)
    for _ in range(4):
        weights = [jnp.asarray(rng.normal(size=(16, 16)), jnp.float32) for _ in range(4)]
        truth = exact_product(weights)

        def entry_ranges(weights=weights):
            region = Region({"a": jnp.zeros(16)}, 0.0, 2)

            def push(v):
                for w in weights:
                    v = v @ w
                return v

            from mmx_jax.certify.affine import Scope, constant
            from mmx_jax.certify.graph import flatten, trace
            from mmx_jax.certify.interpret import interpret

            closed = flatten(trace(push, jnp.zeros(16))[0])
            with jax.enable_x64(True):

                def row(t):
                    scope = Scope(region.ball, 0, 0)
                    (form,) = interpret(scope, closed, [constant(t)])
                    return form.center - form.err[0], form.center + form.err[0]

                return jax.vmap(row)(jnp.eye(16))

        with margins(on):
            low, high = (np.asarray(v) for v in jax.jit(entry_ranges)())
        for i in range(16):
            for j in range(16):
                entries += 1
                broken += (
                    not Fraction(float(low[i, j])) <= truth[i][j] <= Fraction(float(high[i, j]))
                )
    return broken, entries


def test_linear_nets_hold_in_exact_arithmetic_and_fail_without_margins():
    assert linear_violations(True) == (0, 1024)
    assert linear_violations(False)[0] > 500


@pytest.mark.parametrize("norm", [2, np.inf])
def test_nested_and_tends_to_the_point(norm):
    model, x = net()
    lifted = lift(model, x)
    bound = jax.jit(
        lambda x, r: lipschitz_bounds(
            lambda d: gradient(lifted, d, 0, None), x, {"a": r, "b": r}, norm, **QUICK
        )
    )
    results = [bound(x, r) for r in (0.0, 1e-6, 1e-3, 0.05, 0.2, 0.6)]
    for pair in results[0].point:
        point, certified = results[0].point[pair], [r.certified[pair] for r in results]
        assert certified[0] <= point * (1 + 1e-6) + 1e-30
        assert certified[1] <= point * (1 + 1e-4)
        assert all(a <= b for a, b in itertools.pairwise(certified))
        assert all(int(r.status[pair]) == 0 for r in results)
        # at modest radii the search nearly reaches the bound
        assert results[2].certified[pair] <= 1.01 * results[2].searched[pair]


@pytest.mark.parametrize(
    ("method", "norm"),
    [("interval", 2), ("affine", 2), ("full", 2), ("quadratic", 2), ("quadratic", np.inf)],
)
def test_every_method_holds_at_sampled_points(method, norm):
    model, x = net(1, act=jax.nn.gelu)
    lifted = lift(model, x)
    radius = {"a": 0.3, "b": 0.1}
    result = lipschitz_bounds(
        lambda d: gradient(lifted, d, 1, None), x, radius, norm, method, **QUICK
    ).check()
    assert result.method == method
    assert result.lifted
    rng = np.random.default_rng(0)

    @jax.jit
    @jax.vmap
    def hessian(a, b):
        return jax.jacfwd(lambda d: gradient(model, d, 1, None))({"a": a, "b": b})

    u = rng.normal(size=(2, 400, 2))
    u = u / np.linalg.norm(u, axis=2, keepdims=True) if norm == 2 else np.sign(u)
    blocks = hessian(x["a"] + 0.3 * u[0], x["b"] + 0.1 * u[1])
    for (n, m), certified in result.certified.items():
        norms = np.linalg.norm(np.asarray(blocks[n][m]), norm, axis=(1, 2))
        assert norms.max() <= certified
        assert norms.max() <= result.searched[n, m] * 1.05


def test_jumps_are_infinite_and_deviations_finite():
    model, x = net(2, act=jax.nn.relu)
    explain = lambda d: gradient(lift(model, x), d, 0, None)  # noqa: E731
    result = lipschitz_bounds(explain, x, 2.0, **QUICK)
    assert np.isinf(max(result.certified.values()))
    with pytest.raises(certify.CertificateError, match="jumps"):
        result.check()
    moved = deviation_bounds(explain, x, 2.0)
    rng = np.random.default_rng(0)
    base = gradient(model, x, 0, None)
    for _ in range(200):
        u = {k: rng.normal(size=2) for k in x}
        y = {k: x[k] + 2.0 * u[k] / np.linalg.norm(u[k]) for k in x}
        new = gradient(model, y, 0, None)
        for n in x:
            assert np.linalg.norm(new[n] - base[n]) <= moved.certified[n]
    assert all(moved.searched[n] <= moved.certified[n] < np.inf for n in x)


def test_jit_vmap_and_one_trace():
    model, x = net(3)
    lifted = lift(model, x)
    single = chex.assert_max_traces(
        lambda x, r: (
            lipschitz_bounds(
                lambda d: gradient(lifted, d, 0, None), x, {"a": r, "b": 0.0}, **QUICK
            ).certified
        ),
        n=1,
    )
    batch = jax.tree.map(lambda v: jnp.stack([v, v + 0.1]), x)
    radii = jnp.array([0.01, 0.05])
    fn = jax.jit(jax.vmap(single))
    both = fn(batch, radii)
    fn(batch, 2 * radii)
    one = lipschitz_bounds(
        lambda d: gradient(lifted, d, 0, None),
        jax.tree.map(lambda v: v[1], batch),
        {"a": 0.05},
        **QUICK,
    )
    for pair in both:
        np.testing.assert_allclose(both[pair][1], one.certified[pair], rtol=1e-5)


def test_explanation_bounds_lifts_and_scans_loops():
    model, x = net(4, act=jax.nn.silu)

    def integrated(model, x, target, key):
        def step(total, i):
            y = jax.tree.map(lambda v: v * (i + 0.5) / 4, x)
            return jax.tree.map(jnp.add, total, gradient(model, y, target, key)), None

        total, _ = jax.lax.scan(step, jax.tree.map(jnp.zeros_like, x), jnp.arange(4))
        return jax.tree.map(lambda g, v: g * v / 4, total, x)

    result = explanation_bounds(model, integrated, x, 0, None, 0.05, **QUICK)
    assert result.lifted
    for pair in result.point:
        assert result.certified[pair] <= 1.1 * result.searched[pair]


def test_bad_input_says_what_to_do():
    model, x = net()
    fn = lambda d: {"y": model(d)}  # noqa: E731
    for radius in (-0.1, np.inf, np.nan):
        with pytest.raises(InputError, match="finite number"):
            lipschitz_bounds(fn, x, radius)
    with pytest.raises(UnknownNameError, match="modality"):
        lipschitz_bounds(fn, x, {"c": 0.1})
    with pytest.raises(InputError, match="NaN"):
        lipschitz_bounds(fn, x | {"a": x["a"] * jnp.nan}, 0.1)
    with pytest.raises(InputError, match="integers only"):
        lipschitz_bounds(fn, x | {"i": jnp.arange(3)}, {"i": 0.1})
    with pytest.raises(InputError, match="dict of real arrays"):
        lipschitz_bounds(model, x, 0.1)
    with pytest.raises(InputError, match="real array"):
        lipschitz_bounds(lambda d: {"y": jnp.argmax(model(d))}, x, 0.1)
    with pytest.raises(UnknownNameError, match="method"):
        lipschitz_bounds(fn, x, 0.1, method="ful", **QUICK)
    with pytest.raises(InputError, match="norm"):
        lipschitz_bounds(fn, x, 0.1, norm=1)
    with pytest.raises(InputError, match="sort"):
        lipschitz_bounds(lambda d: {"y": jnp.sort(model(d))}, x, 0.1, **QUICK)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="another function when it is called again"):
        lipschitz_bounds(lambda d: {"y": model(d) * rng.normal()}, x, 0.1, **QUICK)
    with pytest.raises(InputError, match="side effects"):
        lipschitz_bounds(lambda d: {"y": (jax.debug.print("."), model(d))[1]}, x, 0.1, **QUICK)
    with pytest.raises(InputError, match="pure_callback"):
        lipschitz_bounds(lambda d: {"y": called_back(d["a"])}, x, 0.1, restarts=0)


@pytest.mark.fast
@pytest.mark.parametrize(
    "settings",
    [
        {"memory": np.nan},
        {"memory": -1},
        {"splits": -1},
        {"radius": "0.1"},
        {"radius": None},
        {"inputs": {"a": jnp.zeros(0)}},
        {"inputs": {"a": jnp.zeros(2, complex)}},
        {"fn": lambda d: {"y": d["a"][:0]}},
    ],
)
def test_arguments_are_named(settings):
    fn = lambda d: {"y": jnp.tanh(d["a"])}  # noqa: E731
    given = {"fn": fn, "inputs": {"a": jnp.ones(2)}, "radius": 0.1} | settings
    (name,) = settings
    with pytest.raises(InputError, match=name):
        lipschitz_bounds(**given)
    with pytest.raises(InputError, match="samples is 0"):
        deviation_bounds(fn, {"a": jnp.ones(2)}, 0.1, samples=0)


def test_targets_are_checked():
    model, x = net()
    with pytest.raises(InputError, match="target is 7"):
        explanation_bounds(model, gradient, x, 7, None, 0.1, **QUICK)


def called_back(x):
    return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def test_weights_that_are_nan_raise():
    with pytest.raises(InputError, match=r"NaN or infinite derivative.*check its weights"):
        lipschitz_bounds(lambda d: {"y": jnp.nan * d["a"]}, {"a": jnp.ones(2)}, 0.1, restarts=0)
