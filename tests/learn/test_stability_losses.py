import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax.learn.stability import path_slope, stability_losses

MATRIX = jax.random.normal(jax.random.key(0), (4, 5))
ONE = jnp.ones(())


def linear(inputs):
    flat = MATRIX @ jnp.concatenate([inputs["x"], inputs["y"]])
    return {"x": flat[:2], "y": flat[2:]}


def point(seed):
    x, y = jax.random.split(jax.random.key(seed))
    return {"x": jax.random.normal(x, (2,)), "y": jax.random.normal(y, (3,))}


def test_the_slope_on_a_path_of_a_linear_explainer_is_exact():
    start, end = point(1), point(2)
    d = jnp.concatenate([end["x"] - start["x"], end["y"] - start["y"]])
    for at in (0.0, 0.3, 1.0):
        slope = path_slope(linear, start, end, jnp.asarray(at))
        np.testing.assert_allclose(
            slope, jnp.linalg.norm(MATRIX @ d) / jnp.linalg.norm(d), rtol=1e-5
        )


def test_the_jacobian_term_is_the_mean_squared_frobenius_norm_of_the_blocks():
    keys = jax.random.split(jax.random.key(3), 8000)
    losses = jax.vmap(lambda k: stability_losses(linear, point(1), point(2), k, ONE, 0.0))(keys)
    np.testing.assert_allclose(jnp.mean(losses["jacobian"]), jnp.sum(MATRIX**2) / 4, rtol=0.05)


def test_the_ball_never_exceeds_the_norms_of_the_blocks_and_comes_near():
    keys = jax.random.split(jax.random.key(3), 2000)
    ball = jax.vmap(lambda k: stability_losses(linear, point(1), point(2), k, ONE, 0.0))(keys)[
        "ball"
    ]
    # per m: the sum over n of squared norms is at most that of the column block
    bound = max(
        sum(
            float(jnp.linalg.norm(MATRIX[rows, columns], 2)) ** 2
            for rows in (slice(2), slice(2, 4))
        )
        for columns in (slice(2), slice(2, 5))
    )
    assert 0.5 * bound < float(jnp.max(ball)) <= bound * (1 + 1e-5)


def test_slopes_up_to_the_limit_cost_nothing():
    limit = float(jnp.linalg.norm(MATRIX, 2)) + 0.01
    losses = stability_losses(linear, point(1), point(2), jax.random.key(0), ONE, limit)
    assert float(losses["ball"]) == float(losses["path"]) == 0.0


def test_paths_may_have_a_limit_of_their_own():
    def losses(**limits):
        return stability_losses(linear, point(1), point(2), jax.random.key(0), ONE, **limits)

    strict = losses(limit=0.1)
    loose = losses(limit=0.1, radius=0.1, path_limit=100.0)
    assert float(strict["path"]) > 0 == float(loose["path"])
    np.testing.assert_array_equal(strict["ball"], loose["ball"])  # the radius is .1 by default
    d = float(losses(limit=100.0, path_limit=0.0)["path"]) ** 0.5
    np.testing.assert_allclose(
        float(losses(limit=100.0, path_limit=0.5 * d)["path"]), (0.5 * d) ** 2, rtol=1e-5
    )


def test_integers_are_not_moved():
    def explain(inputs):
        return {"w": inputs["w"] * 1.0, "y": inputs["y"]}

    inputs = {"w": jnp.array([1, 2]), "y": jnp.ones(3)}
    losses = stability_losses(explain, inputs, inputs, jax.random.key(0), ONE, 0.5)
    assert np.isfinite(float(losses["ball"]))
    only = {"w": inputs["w"]}
    none = stability_losses(lambda x: {"w": x["w"] * 1.0}, only, only, jax.random.key(0), ONE, 0.5)
    assert set(none) == {"jacobian", "ball", "path"}
