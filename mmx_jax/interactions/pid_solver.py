"""The convex program of BROJA: least ``I(Y; X1, X2)`` with both (source, label) marginals fixed.

With ``q(y)`` fixed it is ``minimise sum q ln(q / s)``, ``s_ij = sum_k q_ijk``, over q >= 0 with the
marginals of p on (X1, Y) and (X2, Y). A primal-dual interior-point method solves it: the Hessian
is block diagonal with a rank-one term per (x1, x2), so a step costs one dense solve over the
constraints. The dual is ``maximise -nu b`` with ``ln sum_k exp(-(A' nu)_ijk) <= 0``; any nu
becomes feasible by a constant shift, so each iterate proves how far from optimal it is.
"""

import importlib
from typing import Any

import numpy as np
from scipy import linalg, sparse

from mmx_jax.errors import InputError, MmxError, UnknownNameError

__all__ = ["least_information"]

GAP = 1e-9
"""Nats between the value found and the proven lower bound at which the method stops."""

ACCEPTED = 1e-7
"""The largest gap that is returned rather than raised."""

CENTRING = 0.1
"""How much of the complementarity a step aims to leave."""


def least_information(p: np.ndarray, solver: str = "newton") -> np.ndarray:
    """The joint distribution q* ``[X1, X2, Y]`` of the program.

    Raises:
      MmxError: the gap can't be closed to 1e-7 nats.
    """
    if solver not in ("newton", "clarabel"):
        raise UnknownNameError("solver", solver, ["newton", "clarabel"])
    # outside the support of the marginals q is 0, and is no variable
    cells = np.argwhere((p.sum(1)[:, None, :] > 0) & (p.sum(0)[None, :, :] > 0))
    program = _Program(p, cells)
    solution = _newton(program) if solver == "newton" else _clarabel(program)
    q = np.zeros(p.shape)
    q[tuple(cells.T)] = solution
    return q


class _Program:
    """The constraints ``A q = b`` over the support, and the (x1, x2) of each variable."""

    def __init__(self, p: np.ndarray, cells: np.ndarray) -> None:
        left, right, label = cells.T
        _, self.cell = np.unique(left * p.shape[1] + right, return_inverse=True)
        pairs1, row1 = np.unique(left * p.shape[2] + label, return_inverse=True)
        pairs2, row2 = np.unique(right * p.shape[2] + label, return_inverse=True)
        each = np.arange(len(cells))
        rows, columns = np.concatenate([row1, len(pairs1) + row2]), np.tile(each, 2)
        a = sparse.csr_matrix((np.ones(2 * len(cells)), (rows, columns)))
        b = np.concatenate([p.sum(1).reshape(-1)[pairs1], p.sum(0).reshape(-1)[pairs2]])
        # for each label one constraint follows from the others
        _, spare = np.unique(pairs2 % p.shape[2], return_index=True)
        needed = np.setdiff1d(np.arange(len(b)), len(pairs1) + spare)
        self.a, self.b = a[needed], b[needed]
        self.block = sparse.csr_matrix((np.ones(len(cells)), (each, self.cell)))
        mass = p.sum((0, 1))
        self.start = p.sum(1)[left, label] * p.sum(0)[right, label] / mass[label]

    def totals(self, q: np.ndarray) -> np.ndarray:
        """``s``, summed over labels, at every variable."""
        return np.bincount(self.cell, q)[self.cell]

    def value(self, q: np.ndarray) -> float:
        """``sum q ln(q / s)``."""
        return float(np.sum(q * np.log(q / self.totals(q))))

    def bound(self, nu: np.ndarray) -> float:
        """A proven lower bound of the least value, from any multipliers."""
        c = -(self.a.T @ nu)
        top = np.full(self.cell.max() + 1, -np.inf)
        np.maximum.at(top, self.cell, c)
        log_sums = top + np.log(np.bincount(self.cell, np.exp(c - top[self.cell])))
        # shifting the multipliers of (X1, Y) by the excess makes all constraints hold; their
        # marginals sum to 1, so it costs exactly the excess
        return float(-nu @ self.b - log_sums.max())


def _newton(program: _Program) -> np.ndarray:
    q, z = program.start, np.ones_like(program.start)
    best, gap, bound, worse = q, np.inf, -np.inf, 0
    for _ in range(200):
        mu = CENTRING * float(q @ z) / len(q)
        step, nu = _direction(program, q, z, mu)
        bound = max(bound, program.bound(nu))
        dual_step = (mu - z * step) / q - z
        q = q + _reach(q, step) * step
        z = z + _reach(z, dual_step) * dual_step
        found = program.value(q) - bound
        # a value only counts where the constraints hold; rounding makes late iterates worse
        if found < gap and np.abs(program.a @ q - program.b).max() < GAP / 10:
            best, gap, worse = q, found, 0
        else:
            worse += 1
        if gap <= GAP or (worse > 5 and gap <= ACCEPTED):
            break
    if not gap <= ACCEPTED:
        raise MmxError(
            f"the decomposition is only known to within {gap:.1e} nats: merge rare values, or use "
            "solver='clarabel'"
        )
    return best


def _reach(x: np.ndarray, step: np.ndarray) -> float:
    """The largest step of at most 1 that leaves x positive."""
    falling = step < 0
    return min(1.0, 0.99 * float(np.min(x[falling] / -step[falling], initial=np.inf)))


def _direction(
    program: _Program, q: np.ndarray, z: np.ndarray, mu: float
) -> tuple[np.ndarray, np.ndarray]:
    """The primal Newton step towards ``q z = mu``, and the multipliers of the constraints."""
    a, block = program.a, program.block
    gradient = np.log(q / program.totals(q)) - mu / q
    # the matrix of a block is diag((1 + z) / q) - 11'/s; Sherman and Morrison invert it, and
    # s - sum q / (1 + z) = sum q z / (1 + z) avoids the subtraction
    inverse = q / (1 + z)
    rest = block.T @ (z * inverse)
    weighted = a.multiply(inverse)
    per_block = (weighted @ block).toarray()
    schur = (weighted @ a.T).toarray() + (per_block / rest) @ per_block.T

    def solve(x: np.ndarray) -> np.ndarray:
        return inverse * (x + block @ ((block.T @ (inverse * x)) / rest))

    right = program.a @ q - program.b - a @ solve(gradient)
    scale = 1 / np.sqrt(np.diag(schur))
    nu = scale * _solve_semidefinite(scale[:, None] * schur * scale, scale * right)
    step = solve(-gradient - a.T @ nu)
    # the system grows singular towards the end; what rounding left of the constraints is taken
    # out in proportion to q, by a system that does not
    left = program.b - a @ (q + step)
    step = step + q * (a.T @ _solve_semidefinite((a.multiply(q) @ a.T).toarray(), left))
    return step, nu


def _solve_semidefinite(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A solution of a consistent system that may be singular: a tiny ridge, then refinement."""
    ridge = 1e-14 * len(matrix)
    for _ in range(4):
        try:
            factor = linalg.cho_factor(matrix + ridge * np.eye(len(matrix)))
        except linalg.LinAlgError:
            ridge *= 100
            continue
        x = np.zeros_like(right)
        for _ in range(5):
            x = x + linalg.cho_solve(factor, right - matrix @ x)
        return x
    raise MmxError("a Newton step of the decomposition broke down: use solver='clarabel'")


def _clarabel(program: _Program) -> np.ndarray:
    """The same as an exponential cone program: minimise t with t >= q ln(q / s)."""
    try:
        clarabel: Any = importlib.import_module("clarabel")
    except ImportError as error:
        raise InputError(
            "solver", "'clarabel' is not installed", "pip install 'mmx_jax[pid]'"
        ) from error
    n = program.a.shape[1]
    sums = (program.cell[:, None] == program.cell[None, :]).astype(float)
    # variables (q, t); the cone holds (-t, q, s): q exp(-t / q) <= s
    rows = np.zeros((3 * n, 2 * n))
    each = np.arange(n)
    rows[3 * each, n + each] = 1.0
    rows[3 * each + 1, each] = -1.0
    rows[3 * each + 2, :n] = -sums
    equalities = np.hstack([program.a.toarray(), np.zeros((len(program.b), n))])
    settings: Any = clarabel.DefaultSettings()
    settings.verbose = False
    solution = clarabel.DefaultSolver(
        sparse.csc_matrix((2 * n, 2 * n)),
        np.concatenate([np.zeros(n), np.ones(n)]),
        sparse.csc_matrix(np.vstack([equalities, rows])),
        np.concatenate([program.b, np.zeros(3 * n)]),
        [clarabel.ZeroConeT(len(program.b))] + [clarabel.ExponentialConeT()] * n,
        settings,
    ).solve()
    if "Solved" not in str(solution.status):
        raise MmxError(f"clarabel ended with {solution.status}: use solver='newton'")
    return np.maximum(np.array(solution.x)[:n], 0.0)
