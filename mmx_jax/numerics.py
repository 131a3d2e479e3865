"""Numerical honesty: safe norms, power iteration, intervals of rates, and the rule for keys."""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key, PyTree
from scipy import stats

from mmx_jax.errors import InputError
from mmx_jax.typing import ArrayLike, PRNGKey

__all__ = [
    "clopper_pearson",
    "combine",
    "derive_key",
    "derive_keys",
    "is_inexact",
    "is_key",
    "is_traced",
    "levels",
    "partition",
    "ranks",
    "safe_divide",
    "safe_norm",
    "spearman",
    "spectral_norm",
]


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is a real array, which can be differentiated and blended."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed random keys."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def is_traced(leaf: Any) -> bool:
    """Whether a value is known only inside a transformation, so that it can't be checked."""
    return isinstance(leaf, Tracer)


def partition(tree: PyTree) -> tuple[PyTree, PyTree]:
    """Splits a pytree into its real leaves and the rest (``None`` where the other part has it).

    This is the one way in which integer leaves are kept out of differentiation:
    ``jax.grad(lambda real: f(combine(real, rest)))(real)``.

    >>> partition({"ids": 3, "vector": 1.0})
    ({'ids': None, 'vector': 1.0}, {'ids': 3, 'vector': None})
    """
    real = jax.tree.map(lambda leaf: leaf if is_inexact(leaf) else None, tree)
    rest = jax.tree.map(lambda leaf: None if is_inexact(leaf) else leaf, tree)
    return real, rest


def combine(real: PyTree, rest: PyTree) -> PyTree:
    """The inverse of :func:`partition`."""
    return jax.tree.map(lambda a, b: b if a is None else a, real, rest, is_leaf=lambda x: x is None)


def safe_norm(tree: PyTree, order: float = 2) -> Float[Array, ""]:
    """Norm of all real leaves of a pytree together, with gradient zero at zero.

    Args:
      tree: arrays of any shape; leaves that are ``None`` count for nothing.
      order: 1, 2 or ``inf``.

    >>> float(safe_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}))
    5.0
    >>> float(jax.grad(safe_norm)(jnp.zeros(())))
    0.0
    >>> float(safe_norm(jnp.array([1.0, jnp.nan]))), float(safe_norm(jnp.array([1.0, jnp.inf])))
    (nan, inf)
    """
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)]
    flat = jnp.concatenate(leaves) if leaves else jnp.zeros((1,))
    size = jnp.where(flat == 0, 0.0, jnp.abs(flat))  # JAX gives |x| the slope 1 at 0
    if order == 1:
        return jnp.sum(size)
    if order == np.inf:
        return jnp.max(size, initial=0.0)
    if order != 2:
        raise InputError("order", f"is {order}", "use 1, 2 or inf")
    largest = jax.lax.stop_gradient(jnp.max(size, initial=0.0))
    usable = (largest > 0) & jnp.isfinite(largest)
    scale = jnp.where(usable, largest, 1.0)  # squares neither overflow nor vanish
    squares = jnp.sum((flat / scale) ** 2)
    zero = squares == 0  # NaN and inf are not, and are passed on
    return jnp.where(zero, 0.0, scale * jnp.sqrt(jnp.where(zero, 1.0, squares)))


def safe_divide(numerator: Array, denominator: Array, otherwise: float = jnp.nan) -> Array:
    """``numerator / denominator``, ``otherwise`` where the denominator is 0; no NaN gradients."""
    zero = denominator == 0
    return jnp.where(zero, otherwise, numerator / jnp.where(zero, 1.0, denominator))


def spectral_norm(
    fn: Callable[[PyTree], PyTree], x: PyTree, key: PRNGKey, steps: int = 20
) -> tuple[Float[Array, ""], PyTree]:
    """Largest singular value of the Jacobian of ``fn`` at ``x`` by power iteration on J^T J.

    Every iterate ``||J u||`` with ``||u|| = 1`` is a lower bound of the true value, so the result
    never overstates it beyond rounding. It needs one ``jvp`` and one ``vjp`` a step, no Jacobian.

    Args:
      fn: a function from a pytree of real arrays to a pytree of real arrays.
      x: the point.
      key: where the first direction is drawn.
      steps: iterations; the error falls like ``(sigma_2 / sigma_1)^(2 steps)``.

    Returns:
      the norm and the unit direction (like ``x``) that attains it.

    >>> a = jnp.array([[3.0, 0.0], [0.0, 1.0]])
    >>> round(float(spectral_norm(lambda x: a @ x, jnp.ones(2), jax.random.key(0))[0]), 5)
    3.0
    """
    leaves, treedef = jax.tree.flatten(x)
    keys = jax.random.split(key, max(len(leaves), 1))
    start = [
        jax.random.normal(k, jnp.shape(leaf), jnp.result_type(leaf))
        for k, leaf in zip(keys, leaves, strict=False)
    ]
    _, pull = jax.vjp(fn, x)

    def unit(tree: PyTree) -> PyTree:
        norm = safe_norm(tree)
        return jax.tree.map(lambda leaf: safe_divide(leaf, norm.astype(leaf.dtype), 0.0), tree)

    def push(u: PyTree) -> PyTree:
        return jax.jvp(fn, (x,), (u,))[1]

    def step(_: Any, u: PyTree) -> PyTree:
        (back,) = pull(push(u))
        # where J^T J u vanishes the old direction is as good as any
        stuck = safe_norm(back) == 0
        return jax.tree.map(lambda new, old: jnp.where(stuck, old, new), unit(back), u)

    direction = jax.lax.fori_loop(0, steps, step, unit(jax.tree.unflatten(treedef, start)))
    return safe_norm(push(direction)), direction


def levels(x: Float[Array, "n"], steps: int = 10_000) -> Float[Array, "n"]:
    """Magnitudes in whole steps of the largest, so that rounding gives no rank.

    Scores of units without effect, and effects of modalities that have none, differ from 0 and
    from each other by rounding alone; ranked as they are they would be in any order.

    >>> levels(jnp.array([-2.0, 1.0, 1e-7, 0.0])).tolist()
    [10000.0, 5000.0, 0.0, 0.0]
    """
    size = jnp.abs(x)
    return jnp.round(steps * safe_divide(size, jnp.max(size, initial=0.0), 0.0))


def ranks(x: Float[Array, "n"], where: Bool[Array, "n"] | None = None) -> Float[Array, "n"]:
    """Ascending ranks from 1, ties sharing their mean rank (as in Spearman's coefficient).

    Args:
      x: values; of the size of a set of units, since every pair is compared.
      where: the entries that count; all by default. The ranks of others mean nothing.

    >>> [float(r) for r in ranks(jnp.array([5.0, 1.0, 5.0]))]
    [2.5, 1.0, 2.5]
    """
    counted = jnp.ones(x.shape, bool) if where is None else where
    below = jnp.sum((x[None, :] < x[:, None]) & counted, axis=1)
    equal = jnp.sum((x[None, :] == x[:, None]) & counted, axis=1)
    return below + (equal + 1) / 2


def spearman(
    x: Float[ArrayLike, "n"], y: Float[ArrayLike, "n"], where: Bool[ArrayLike, "n"] | None = None
) -> Any:
    """Spearman's rank correlation; NaN where it is undefined: one side constant, or a NaN in it.

    Args:
      x: values. NumPy arrays are ranked by sorting, JAX arrays by comparing all pairs.
      y: values.
      where: the entries that count; all by default.

    >>> spearman(np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 6.0]))
    1.0
    """
    if isinstance(x, np.ndarray):
        x, y = (np.asarray(v, np.float64)[slice(None) if where is None else where] for v in (x, y))
        if not x.size or np.isnan(x).any() or np.isnan(y).any():
            return float("nan")
        a, b = (v - v.mean() for v in (stats.rankdata(x), stats.rankdata(y)))
        size = np.sqrt(np.sum(a * a) * np.sum(b * b))
        return float(np.sum(a * b) / size) if size > 0 else float("nan")
    keep = jnp.ones(x.shape, bool) if where is None else jnp.asarray(where)
    n = jnp.sum(keep)
    a, b = (jnp.where(keep, ranks(jnp.asarray(v), keep), 0.0) for v in (x, y))
    a, b = (jnp.where(keep, v - jnp.sum(v) / jnp.maximum(n, 1), 0.0) for v in (a, b))
    out = safe_divide(jnp.sum(a * b), jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b)))
    unknown = jnp.any(keep & (jnp.isnan(x) | jnp.isnan(y)))
    return jnp.where(unknown, jnp.nan, out)


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided binomial interval of a rate (Clopper and Pearson, Biometrika 1934).

    Args:
      successes: how often it happened.
      trials: how often it could have; with 0 trials the interval is [0, 1].
      confidence: coverage, at least this for every true rate.

    >>> clopper_pearson(0, 10)[0], round(clopper_pearson(0, 10)[1], 4)
    (0.0, 0.3085)
    """
    if not 0 <= successes <= trials:
        raise InputError("successes", f"is {successes} of {trials} trials", "count 0 to trials")
    if not 0 < confidence < 1:
        raise InputError("confidence", f"is {confidence}", "use a number between 0 and 1")
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = stats.beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high = (
        stats.beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    )
    return float(low), float(high)


def derive_key(
    seed: int | PRNGKey, purpose: str, example: int | Int[Array, ""] | None = None
) -> PRNGKey:
    """The one rule for keys: a typed key per (seed, purpose, example).

    Args:
      seed: a seed, or a typed key to derive from.
      purpose: what the randomness is for; different purposes are independent.
      example: the index of the example, or None for the key of the purpose itself.
    """
    root = jax.random.key(seed) if isinstance(seed, int | np.integer) else seed
    key = jax.random.fold_in(root, zlib.crc32(purpose.encode()))
    return key if example is None else jax.random.fold_in(key, example)


def derive_keys(
    seed: int | PRNGKey, purpose: str, examples: int, start: int = 0
) -> Key[Array, "examples"]:
    """Keys ``[examples]``: row i is ``derive_key(seed, purpose, start + i)``."""
    root = derive_key(seed, purpose)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(start, start + examples))
