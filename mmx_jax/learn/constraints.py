"""How many losses become one: fixed weights, or limits met by an augmented Lagrangian.

Fixed weights did better than naive dual ascent wherever a demand could not be met, because its
multiplier runs away. Here multipliers are bounded, and a limit that holds its multiplier at the
bound is reported as infeasible.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmx_jax.errors import InputError, UnknownNameError

__all__ = ["Balance", "check_constants", "needed_slope"]

Losses = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Balance:
    """``sum_i w_i l_i`` plus, for limited losses, an augmented Lagrangian.

    With ``g_i = l_i - limit_i`` and multipliers ``y_i`` in [0, bound] each adds
    ``((max(0, y_i + rho g_i))^2 - y_i^2) / (2 rho)`` (Rockafellar 1973), and after every step
    ``y_i <- clip(y_i + rate g_i, 0, bound)``.

    Attributes:
      weights: (name, weight) of the losses; those left out count for nothing.
      limits: (name, limit) of the losses that are constraints.
      penalty: rho.
      rate: of the multipliers.
      bound: of the multipliers.
      late: names of losses that count for nothing during the first ``delay`` of training and in
        full from twice that on.
      delay: a share of the steps.

    >>> balance = Balance((("a", 2.0),), limits=(("b", 0.1),))
    >>> losses = {"a": jnp.array(1.0), "b": jnp.array(0.3)}
    >>> round(float(balance.total(losses, balance.start())), 4)
    2.2
    """

    weights: tuple[tuple[str, float], ...]
    limits: tuple[tuple[str, float], ...] = ()
    penalty: float = 10.0
    rate: float = 0.1
    bound: float = 100.0
    late: tuple[str, ...] = ()
    delay: float = 0.2

    def check(self, names: list[str] | Losses) -> None:
        """Raises where a weight or limit names no loss, or a constant has the wrong sign."""
        for name, number in (*self.weights, *self.limits):
            if name not in names:
                raise UnknownNameError("loss", name, names)
            if not 0 <= number < float("inf"):
                raise InputError(
                    f"weight or limit of {name}", f"is {number}", "use a finite number, 0 or more"
                )
        for kind in (self.weights, self.limits):
            twice = sorted({n for n, _ in kind if [m for m, _ in kind].count(n) > 1})
            if twice:
                raise InputError("balance", f"names {', '.join(twice)} twice", "name each once")
        for name in self.late:
            if name not in names:
                raise UnknownNameError("loss", name, names)
        for name in ("penalty", "rate", "bound", "delay"):
            if getattr(self, name) <= 0:
                raise InputError(name, f"is {getattr(self, name)}", "use a positive number")

    def start(self) -> Losses:
        """The multipliers before training: zero."""
        return {name: jnp.zeros(()) for name, _ in self.limits}

    def total(self, losses: Losses, multipliers: Losses) -> Float[Array, ""]:
        """The one number that is minimised."""
        total = jnp.zeros(())
        for name, weight in self.weights:
            total += weight * losses[name]
        for name, limit in self.limits:
            y = multipliers[name]
            pushed = jnp.maximum(0.0, y + self.penalty * (losses[name] - limit))
            total += (pushed**2 - y**2) / (2 * self.penalty)
        return total

    def prices(
        self, losses: Losses, multipliers: Losses, progress: float | Float[Array, ""]
    ) -> Losses:
        """What one more of each loss costs; ``progress`` is the share of the steps done.

        >>> balance = Balance((("a", 2.0), ("b", 1.0)), late=("b",), delay=0.2)
        >>> losses = {"a": jnp.array(1.0), "b": jnp.array(1.0)}
        >>> [float(balance.prices(losses, {}, at)["b"]) for at in (0.1, 0.5)]
        [0.0, 1.0]
        """
        out = jax.grad(self.total)(losses, multipliers)
        ramp = jnp.clip(progress / self.delay - 1.0, 0.0, 1.0)
        return {name: price * (ramp if name in self.late else 1.0) for name, price in out.items()}

    def update(self, losses: Losses, multipliers: Losses) -> Losses:
        """The multipliers after a step."""
        return {
            name: jnp.clip(multipliers[name] + self.rate * (losses[name] - limit), 0.0, self.bound)
            for name, limit in self.limits
        }

    def report(
        self, losses: Mapping[str, float], multipliers: Mapping[str, float]
    ) -> dict[str, str]:
        """Per limit: ``met``, ``active`` (met at a price), ``violated`` or ``infeasible``.

        Infeasible is a violated limit whose multiplier has reached its bound.
        """
        out = {}
        for name, limit in self.limits:
            violated = float(losses[name]) > limit
            y = float(multipliers[name])
            if violated:
                out[name] = "infeasible" if y >= self.bound else "violated"
            else:
                out[name] = "active" if y > 1e-3 * self.bound else "met"
        return out


def needed_slope(
    effects: Mapping[str, Float[Array, "examples"]],
    distances: Mapping[str, Float[Array, "examples"]],
    units: Mapping[str, int],
    alpha: float,
    beta: float,
) -> dict[str, float]:
    """Per modality the smallest slope with which ``dE_mm >= alpha df_m - beta`` can hold.

    ``||E_m(x) - E_m(x_-m)||_1`` is at most ``sqrt(units) L ||x_m - reference||_2``, because L1 is
    at most sqrt(units) times L2.

    Args:
      effects: df_m per modality.
      distances: ``||x_m - reference_m||_2`` per modality, on the same examples.
      units: per modality.
      alpha: demanded slope.
      beta: slack, in units of v.
    """
    out = {}
    for name in sorted(effects):
        wanted = alpha * jnp.asarray(effects[name]) - beta
        room = units[name] ** 0.5 * jnp.asarray(distances[name])
        needed = jnp.where(wanted > 0, wanted / jnp.maximum(room, 1e-12), 0.0)
        out[name] = float(jnp.max(needed))
    return out


def check_constants(
    effects: Mapping[str, Float[Array, "examples"]],
    distances: Mapping[str, Float[Array, "examples"]],
    units: Mapping[str, int],
    alpha: float,
    beta: float,
    lipschitz: float,
) -> None:
    """Raises where influence and stability demand contradictory things of an example.

    Args:
      effects, distances, units, alpha, beta: see :func:`needed_slope`.
      lipschitz: the largest L2 to L2 slope that is allowed of E_m.

    Raises:
      InputError: with the share of examples, and the smallest L that would do.
    """
    for name, needed in needed_slope(effects, distances, units, alpha, beta).items():
        if needed > lipschitz:
            wanted = alpha * jnp.asarray(effects[name]) - beta
            room = units[name] ** 0.5 * jnp.asarray(distances[name])
            share = float(jnp.mean(wanted > lipschitz * room))
            raise InputError(
                "alpha, beta, lipschitz",
                f"contradict each other on {100 * share:.1f} % of the inputs: removing "
                f"{name!r} must change its explanation by more than a slope of {lipschitz:g} lets",
                f"allow a slope of at least {needed:.3g}, or lower alpha",
            )
