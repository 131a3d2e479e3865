"""Interaction indices of games given as tables: SII, k-SII, STII, Banzhaf, Harsanyi dividends.

All of them are read off the multilinear extension of the game (Owen, *Multilinear extensions of
games*, 1972): with ``f(x)`` the expected value when every player is present with probability x,
the partial derivative ``d_S f(x, ..., x)`` at 0 is the dividend of S, at 1/2 its Banzhaf
interaction, and its mean over x in [0, 1] its Shapley interaction (Grabisch, Marichal and Roubens,
2000). One butterfly gives the derivatives of all S at a point; a Gauss-Legendre rule that is exact
for polynomials of degree n - 1 gives the means. Unlike alternating sums of dividends, this never
subtracts large numbers.
"""

import math
from functools import lru_cache
from itertools import combinations
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Num

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.games import MAX_PLAYERS, as_table, moebius
from mmx_jax.typing import ArrayLike, record, static

__all__ = [
    "Interactions",
    "banzhaf_interactions",
    "harsanyi",
    "harsanyi_share",
    "shapley_interactions",
    "subsets",
]

INDICES = ("SII", "k-SII", "STII")


@lru_cache
def subsets(n: int, order: int) -> tuple[tuple[int, ...], ...]:
    """Coalitions of 1 to ``order`` of n players, by size, then in lexicographic order.

    >>> subsets(3, 2)
    ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2))
    """
    return tuple(s for size in range(1, order + 1) for s in combinations(range(n), size))


@record
class Interactions:
    """One value per coalition of at most ``order`` players.

    ``interactions[0, 2]`` is the value of players 0 and 2 together, in any order;
    ``interactions[1]`` that of player 1 alone.

    Attributes:
      values: ``[..., coalitions]``, in the order of ``subsets``.
      subsets: the coalitions, as sorted tuples of players (:func:`subsets`).
      players: how many players the game has.
      index: the name of the index.
    """

    values: Float[ArrayLike, "*batch coalitions"]
    subsets: tuple[tuple[int, ...], ...] = static()
    players: int = static()
    index: str = static()

    def __getitem__(
        self, coalition: int | np.integer | tuple[int, ...]
    ) -> Float[ArrayLike, "*batch"]:
        """The values ``[...]`` of one coalition."""
        wanted: tuple[int, ...] = (
            tuple(sorted(coalition)) if isinstance(coalition, tuple) else (int(coalition),)
        )
        if wanted not in self.subsets:
            raise InputError(
                "coalition",
                f"is {coalition}",
                f"use 1 to {len(self.subsets[-1])} different players below {self.players}",
            )
        return self.values[..., list(self.subsets).index(wanted)]

    def of_size(self, size: int) -> Float[ArrayLike, "*batch coalitions"]:
        """The values of all coalitions of one size, in lexicographic order."""
        return self.values[..., [i for i, s in enumerate(self.subsets) if len(s) == size]]

    def matrix(self) -> Float[ArrayLike, "*batch players players"]:
        """Pairs off the diagonal (symmetric), single players on it; needs order 2 or more."""
        if len(self.subsets[-1]) < 2:
            raise InputError("order", "is 1", "compute pairs, order=2")
        place = {frozenset(s): i for i, s in enumerate(self.subsets)}
        n = range(self.players)
        index = np.array([[place[frozenset((i, j))] for j in n] for i in n])
        return self.values[..., index]


def shapley_interactions(
    values: Num[ArrayLike, "*batch coalitions"], order: int = 2, index: str = "SII"
) -> Interactions:
    """Shapley interactions of all coalitions of at most ``order`` players.

    With the discrete derivative ``D_S(T) = sum_{L <= S} (-1)^(|S|-|L|) v(T + L)`` and n players:

    - ``"SII"`` (Grabisch and Roubens 1999): ``sum_T t! (n-t-s)! / (n-s+1)! D_S(T)`` over
      T without S; for single players the Shapley value.
    - ``"k-SII"`` (Bordt and von Luxburg 2023): SII aggregated so that the values of all coalitions
      sum to ``v(all) - v(none)``; k is ``order``.
    - ``"STII"`` (Sundararajan, Dhamdhere and Agarwal 2020): ``D_S(none)`` below the order and
      ``k/n sum_T D_S(T) / binom(n-1, t)`` at it; also sums to ``v(all) - v(none)``.

    Args:
      values: games ``[..., 2**n]``, n up to 16: bit m of the last index says that player m is
        present. NumPy tables are computed in float64.
      order: the size of the largest coalitions, 1 to n.
      index: ``"SII"``, ``"k-SII"`` or ``"STII"``.

    Returns:
      the values ``[..., coalitions]`` with their coalitions. Cost: no model evaluations beyond the
      2**n of the table.

    Raises:
      InputError: tables that are no games or hold NaN; an order out of range; n above 16 (sample
        instead, :class:`~mmx_jax.interactions.SampledPairs`).
      UnknownNameError: another index.

    >>> pairs = shapley_interactions(np.array([0.0, 1.0, 2.0, 7.0]))
    >>> [float(pairs[s]) for s in (0, 1, (0, 1))]
    [3.0, 4.0, 4.0]
    """
    if index not in INDICES:
        raise UnknownNameError("index", index, INDICES)
    table, n, xp = as_table(values, MAX_PLAYERS)
    _check_order(order, n)
    points, weights = _legendre(n)
    if index == "STII":
        weights = weights * order * (1 - points) ** (order - 1)
    means: Any = sum(
        float(w) * _derivatives(table, float(x), xp) for x, w in zip(points, weights, strict=True)
    )
    sets = subsets(n, order)
    out = means[..., _bitmasks(sets)]
    if index == "STII":
        low = sum(len(s) < order for s in sets)
        out = xp.concatenate([moebius(table)[..., _bitmasks(sets[:low])], out[..., low:]], axis=-1)
    elif index == "k-SII":
        out = _aggregate(out, sets, order, xp)
    return Interactions(out, sets, n, index)


def banzhaf_interactions(
    values: Num[ArrayLike, "*batch coalitions"], order: int = 2
) -> Interactions:
    """Banzhaf interactions ``2^(s-n) sum_T D_S(T)`` (Roubens 1996; Grabisch and Roubens 1999).

    Arguments, result and errors as in :func:`shapley_interactions`.

    >>> float(banzhaf_interactions(np.array([0.0, 1.0, 2.0, 7.0]))[0])
    3.0
    """
    table, n, xp = as_table(values, MAX_PLAYERS)
    _check_order(order, n)
    sets = subsets(n, order)
    return Interactions(_derivatives(table, 0.5, xp)[..., _bitmasks(sets)], sets, n, "Banzhaf")


def harsanyi(values: Num[ArrayLike, "*batch coalitions"], order: int | None = None) -> Interactions:
    """Harsanyi dividends ``sum_{T <= S} (-1)^(s-t) v(T)`` up to ``order`` (all by default).

    :func:`~mmx_jax.games.moebius` gives the same numbers as a table. Arguments, result and errors
    as in :func:`shapley_interactions`.

    >>> float(harsanyi(np.array([0.0, 1.0, 2.0, 7.0]))[0, 1])
    4.0
    """
    table, n, _ = as_table(values, MAX_PLAYERS)
    order = n if order is None else order
    _check_order(order, n)
    sets = subsets(n, order)
    return Interactions(moebius(table)[..., _bitmasks(sets)], sets, n, "Harsanyi")


def harsanyi_share(values: Num[ArrayLike, "*batch coalitions"]) -> Float[ArrayLike, ""]:
    """Percent of the game that is interaction: the calibrated companion of InterSHAP.

    ``100 sum_{|S|>1} |m(S)| / sum_{|S|>0} |m(S)|`` with m the dividends, averaged over the leading
    axes first. It is 0 for additive games and 100 for parity of any number of players (nothing is
    known until all are present: 0 for every other coalition), where InterSHAP gives
    ``50 M / (M - 1)``.

    Args:
      values: games ``[..., 2**n]``; leading axes are examples of one population.

    Returns:
      a scalar; NaN where the mean game is constant, since its share is undefined.

    >>> float(harsanyi_share(np.array([0.0, 1.0, 1.0, 4.0])))
    50.0
    """
    dividends = harsanyi(values)
    table, xp = dividends.values, np if isinstance(dividends.values, np.ndarray) else jax.numpy
    mean = xp.abs(xp.mean(table.reshape(-1, table.shape[-1]), axis=0))
    total = xp.sum(mean)
    share = 100 * xp.sum(mean[dividends.players :]) / xp.where(total > 0, total, xp.nan)
    return xp.asarray(share)


def _derivatives(table: Any, x: float, xp: Any) -> Any:
    """``d_S f(x, ..., x)`` of the multilinear extension for all S, as a table ``[..., 2**n]``."""
    # each step takes the lowest bit of the index and puts it on top: n steps restore the order,
    # and all have the same shapes
    for _ in range(table.shape[-1].bit_length() - 1):
        pairs = table.reshape(*table.shape[:-1], -1, 2)
        without, present = pairs[..., 0], pairs[..., 1]
        blend = (1 - x) * without + x * present
        table = xp.concatenate([blend, present - without], axis=-1)
    return table


def _legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on [0, 1], exact for polynomials of degree n - 1."""
    points, weights = np.polynomial.legendre.leggauss(-(-n // 2))
    return (points + 1) / 2, weights / 2


def _aggregate(sii: Any, sets: tuple[tuple[int, ...], ...], order: int, xp: Any) -> Any:
    """k-SII: ``sum_r B_r sum_{|R|=r} SII(S + R)`` over R without S, B_r the Bernoulli numbers."""
    place = {s: i for i, s in enumerate(sets)}
    out = []
    for size in range(1, order + 1):
        rows = [s for s in sets if len(s) == size]
        total: Any = 0.0
        for extra in range(order - size + 1):
            larger = [
                [place[tuple(sorted(s + r))] for r in combinations(_others(s, sets), extra)]
                for s in rows
            ]
            total = total + _bernoulli(extra) * xp.sum(sii[..., np.array(larger, int)], axis=-1)
        out.append(total)
    return xp.concatenate(out, axis=-1)


def _others(s: tuple[int, ...], sets: tuple[tuple[int, ...], ...]) -> list[int]:
    return [p for (p,) in (t for t in sets if len(t) == 1) if p not in s]


def _bernoulli(r: int) -> float:
    """Bernoulli numbers with ``B_1 = -1/2``."""
    known = [1.0]
    for m in range(1, r + 1):
        known.append(-sum(math.comb(m + 1, k) * known[k] for k in range(m)) / (m + 1))
    return known[r]


def _bitmasks(sets: tuple[tuple[int, ...], ...]) -> np.ndarray:
    return np.array([sum(1 << p for p in s) for s in sets], int)


def _check_order(order: int, n: int) -> None:
    if not isinstance(order, int | np.integer) or not 1 <= order <= n:
        raise InputError("order", f"is {order!r} for {n} players", f"use 1 to {n}")
