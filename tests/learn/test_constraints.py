import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax import InputError
from mmx_jax.errors import UnknownNameError
from mmx_jax.learn.constraints import Balance, check_constants


def minimise(balance, losses_of, start, steps=4000, rate=0.01):
    def step(state, _):
        w, y = state
        slope = jax.grad(lambda w: balance.total(losses_of(w), y))(w)
        w = w - rate * slope
        return (w, balance.update(losses_of(w), y)), None

    (w, y), _ = jax.lax.scan(step, (start, balance.start()), length=steps)
    return w, y


def test_a_limit_is_met_exactly_at_the_multiplier_of_the_constrained_optimum():
    # min w^2 subject to 1 - w <= 0 has w = 1 and multiplier 2
    balance = Balance((("cost", 1.0),), (("short", 0.0),), rate=0.05)
    w, y = minimise(balance, lambda w: {"cost": w**2, "short": 1 - w}, jnp.zeros(()))
    np.testing.assert_allclose(w, 1.0, atol=1e-3)
    np.testing.assert_allclose(y["short"], 2.0, atol=1e-2)
    report = balance.report({"short": -1e-9}, {"short": float(y["short"])})
    assert report == {"short": "active"}


def test_a_limit_that_costs_nothing_gets_no_multiplier():
    balance = Balance((("cost", 1.0),), (("short", 0.0),))
    w, y = minimise(balance, lambda w: {"cost": (w - 3) ** 2, "short": 1 - w}, jnp.zeros(()))
    np.testing.assert_allclose(w, 3.0, atol=1e-3)
    assert float(y["short"]) == 0.0


def test_an_infeasible_limit_stops_at_the_bound_and_is_reported():
    balance = Balance((("cost", 1.0),), (("impossible", 0.0),), bound=5.0)
    w, y = minimise(balance, lambda w: {"cost": w**2, "impossible": 1 + w**2}, jnp.ones(()))
    assert float(y["impossible"]) == 5.0
    assert np.isfinite(float(w))
    report = balance.report({"impossible": 1.0}, {"impossible": 5.0})
    assert report == {"impossible": "infeasible"}


def test_contradictory_constants_are_said_with_what_would_do():
    effects, distances = {"a": jnp.array([0.1, 0.9])}, {"a": jnp.array([1.0, 1.0])}
    check_constants(effects, distances, {"a": 4}, 1.0, 0.0, 0.46)
    with pytest.raises(InputError, match=r"on 50.0 % of the inputs.*at least 0.45"):
        check_constants(effects, distances, {"a": 4}, 1.0, 0.0, 0.3)
    check_constants(effects, distances, {"a": 4}, 0.5, 0.0, 0.3)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((("a", -1.0),), "finite number, 0 or more"),
        ((("a", float("nan")),), "finite number, 0 or more"),
        ((("a", 1.0), ("a", 2.0)), "names a twice"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(weights, told):
    with pytest.raises(InputError, match=told):
        Balance(weights).check(["a"])


def test_late_losses_cost_nothing_at_first_and_their_weight_or_multiplier_later():
    balance = Balance((("a", 2.0), ("b", 4.0)), (("c", 0.0),), late=("b", "c"), delay=0.2)
    balance.check(["a", "b", "c"])
    losses = {name: jnp.ones(()) for name in "abc"}
    for progress, share in ((0.0, 0.0), (0.2, 0.0), (0.3, 0.5), (0.4, 1.0), (1.0, 1.0)):
        prices = balance.prices(losses, {"c": jnp.array(3.0)}, progress)
        wanted = {"a": 2.0, "b": 4.0 * share, "c": (3.0 + balance.penalty) * share}
        for name, price in wanted.items():
            np.testing.assert_allclose(prices[name], price, rtol=1e-5, atol=1e-6)
    with pytest.raises(UnknownNameError, match="did you mean 'b'"):
        Balance((), late=("bb",)).check(["aa", "b"])
