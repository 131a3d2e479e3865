"""Partial information decomposition: what two sources tell about a label alone and together.

The decomposition of Bertschinger, Rauh, Olbrich, Jost and Ay, *Quantifying Unique Information*
(Entropy 2014), known as BROJA. Among all joint distributions q that agree with p on (X1, Y) and
on (X2, Y), q* has the least ``I(Y; X1, X2)``; then

- synergy ``I_p(Y; X1, X2) - I_q*(Y; X1, X2)``,
- unique 1 ``I_q*(Y; X1 | X2)``, unique 2 ``I_q*(Y; X2 | X1)``,
- redundancy ``I(Y; X1) - unique 1 = I(Y; X2) - unique 2``.

Finding q* is a convex program, solved here to a proven gap (:mod:`.pid_solver`). For continuous
data the sources are clustered first, as Liang et al., *Quantifying & Modeling Multimodal
Interactions: An Information Decomposition Framework* (NeurIPS 2023) do.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num, Shaped

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.interactions.pid_solver import least_information
from mmx_jax.typing import ArrayLike

__all__ = ["PID", "joint_distribution", "pid", "pid_continuous"]

UNITS = {"bits": np.log(2), "nats": 1.0}


class PID(NamedTuple):
    """The four parts; they sum to ``I(Y; X1, X2)``.

    Attributes:
      redundancy: what either source tells.
      unique1: what only the first source tells.
      unique2: what only the second source tells.
      synergy: what only both together tell.
    """

    redundancy: float
    unique1: float
    unique2: float
    synergy: float


def pid(joint: Num[ArrayLike, "..."], unit: str = "bits", solver: str = "newton") -> PID:
    """The decomposition of a discrete joint distribution.

    Args:
      joint: ``[X1, X2, Y]``, non-negative; counts are normalised.
      unit: ``"bits"`` or ``"nats"``.
      solver: ``"newton"`` (an interior-point method of this package, stopped by a duality gap of
        1e-9 nats) or ``"clarabel"`` (the conic solver of that name; install ``mmx_jax[pid]``).

    Returns:
      the four parts. It runs on the host in float64 and makes no model evaluations.

    Raises:
      InputError: negative or NaN entries, or another number of axes.
      UnknownNameError: another unit or solver.

    >>> p = np.zeros((2, 2, 2))
    >>> for a, b in np.ndindex(2, 2):
    ...     p[a, b, a & b] = 1
    >>> [round(part, 4) for part in pid(p)]
    [0.3113, 0.0, 0.0, 0.5]
    """
    p = np.asarray(joint, np.float64)
    if p.ndim != 3 or 0 in p.shape:
        raise InputError("joint", f"has shape {p.shape}", "give [X1, X2, Y]")
    if not np.all(np.isfinite(p)) or p.min() < 0 or p.sum() <= 0:
        raise InputError(
            "joint", "holds negative, NaN or only zero entries", "give probabilities or counts"
        )
    if unit not in UNITS:
        raise UnknownNameError("unit", unit, UNITS)
    p = p / p.sum()
    q = least_information(p, solver)
    first, second = _information(p.sum(1)), _information(p.sum(0))
    least = _information(q.reshape(-1, p.shape[2]))
    whole = _information(p.reshape(-1, p.shape[2]))
    parts = (first + second - least, least - second, least - first, whole - least)
    # all four are non-negative; what is below is the gap of the program
    return PID(*(max(0.0, float(part / UNITS[unit])) for part in parts))


def joint_distribution(x1: ArrayLike, x2: ArrayLike, y: ArrayLike) -> Float[np.ndarray, "X1 X2 Y"]:
    """The empirical joint distribution of three discrete variables ``[examples]``, of any values.

    >>> joint_distribution(np.array([0, 1]), np.array([5, 5]), np.array([2, 3])).shape
    (2, 1, 2)
    """
    shapes = {np.shape(v) for v in (x1, x2, y)}
    if len(shapes) != 1 or len(min(shapes)) != 1 or min(shapes) == (0,):
        raise InputError("x1, x2, y", f"have shapes {sorted(shapes)}", "give [examples] each")
    codes = [np.unique(np.asarray(v), return_inverse=True) for v in (x1, x2, y)]
    counts = np.zeros([len(values) for values, _ in codes])
    np.add.at(counts, tuple(index.reshape(-1) for _, index in codes), 1.0)
    return counts / counts.sum()


def pid_continuous(
    x1: Float[ArrayLike, "examples dim1"],
    x2: Float[ArrayLike, "examples dim2"],
    y: Shaped[ArrayLike, "examples"],
    clusters: int = 20,
    components: int | None = 2,
    seed: int = 0,
    unit: str = "bits",
    solver: str = "newton",
) -> PID:
    """The published clustering estimator for continuous sources and a discrete label.

    Each source is scaled to unit length per example, projected on its first principal components
    and clustered by k-means; then :func:`pid` of the empirical joint distribution. It is biased
    upwards on small samples, synergy most: compare with shuffled labels.

    Args:
      x1, x2: features ``[examples, dim]``.
      y: labels ``[examples]``.
      clusters: of k-means, per source (20 as published).
      components: of the projection (2 as published for this generator); None clusters the raw
        features, unscaled.
      seed: of k-means and of the projection's solver.
      unit, solver: as in :func:`pid`.

    Raises:
      InputError: NaN features, or fewer examples than clusters.
    """
    codes = [_cluster(x, clusters, components, seed, name) for name, x in (("x1", x1), ("x2", x2))]
    return pid(joint_distribution(codes[0], codes[1], np.asarray(y)), unit, solver)


def _cluster(x: Any, clusters: int, components: int | None, seed: int, name: str) -> np.ndarray:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not np.all(np.isfinite(x)):
        raise InputError(name, "is no finite array [examples, dim]", "clean and flatten it first")
    if len(x) < clusters:
        raise InputError("clusters", f"is {clusters} for {len(x)} examples", "use fewer")
    if components is not None:
        count = min(components, *x.shape)
        x = PCA(count, random_state=seed).fit_transform(np.asarray(normalize(x)))
    restarts: Any = 10  # scikit-learn annotates it as text only
    return KMeans(clusters, n_init=restarts, random_state=seed).fit_predict(x)


def _information(table: np.ndarray) -> float:
    """Mutual information of a joint distribution ``[X, Y]`` in nats."""
    from scipy.special import rel_entr

    product = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    return float(np.sum(rel_entr(table, product)))
