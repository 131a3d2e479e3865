"""Partial information decomposition: known gates, invariances, and a second solver."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.interactions import joint_distribution, pid, pid_continuous

BIT = (0, 1)
AND_REDUNDANCY = 0.75 * np.log2(4 / 3)


def joint(rows, sizes=(2, 2, 2)):
    p = np.zeros(sizes)
    for x1, x2, y in rows:
        p[x1, x2, y] += 1
    return p


GATES = {
    "and": (joint([(a, b, a & b) for a in BIT for b in BIT]), (AND_REDUNDANCY, 0, 0, 0.5)),
    "or": (joint([(a, b, a | b) for a in BIT for b in BIT]), (AND_REDUNDANCY, 0, 0, 0.5)),
    "xor": (joint([(a, b, a ^ b) for a in BIT for b in BIT]), (0, 0, 0, 1)),
    "unique": (joint([(a, b, a) for a in BIT for b in BIT]), (0, 1, 0, 0)),
    "copy": (joint([(a, a, a) for a in BIT]), (1, 0, 0, 0)),
    "redundant and unique": (
        joint([(2 * a + b, a, a & b) for a in BIT for b in BIT], (4, 2, 2)),
        (AND_REDUNDANCY, 0.5, 0, 0),
    ),
    "redundant or unique": (
        joint([(2 * a + b, a, a | b) for a in BIT for b in BIT], (4, 2, 2)),
        (AND_REDUNDANCY, 0.5, 0, 0),
    ),
    "redundant xor unique": (
        joint([(2 * a + b, a, a ^ b) for a in BIT for b in BIT], (4, 2, 2)),
        (0, 1, 0, 0),
    ),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("solver", ["newton", "clarabel"])
def test_gates(name, solver):
    if solver == "clarabel":
        pytest.importorskip("clarabel")
    p, expected = GATES[name]
    assert np.allclose(pid(p, solver=solver), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("zeros", [0.0, 0.6])
def test_two_solvers_agree(seed, zeros):
    pytest.importorskip("clarabel")
    rng = np.random.default_rng(seed)
    p = rng.gamma(0.3, size=(4, 3, 3)) * (rng.random((4, 3, 3)) >= zeros)
    assert np.allclose(pid(p), pid(p, solver="clarabel"), atol=1e-6)


def test_the_program_has_the_least_information():
    """No other distribution with the same marginals has less: random feasible directions."""
    from mmx_jax.interactions.pid import _information
    from mmx_jax.interactions.pid_solver import least_information

    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.full(18, 0.5)).reshape(3, 3, 2)
    q = least_information(p)
    assert np.allclose(q.sum(0), p.sum(0), atol=1e-12)
    assert np.allclose(q.sum(1), p.sum(1), atol=1e-12)
    least = _information(q.reshape(9, 2))
    for _ in range(300):
        move = rng.normal(size=q.shape)
        move -= move.mean(0, keepdims=True)
        move -= move.mean(1, keepdims=True)
        falling = move < 0
        size = min(1.0, np.min(q[falling] / -move[falling])) * rng.random()
        other = np.maximum(q + size * move, 0)
        assert _information(other.reshape(9, 2)) >= least - 1e-9


def test_sums_and_symmetry():
    rng = np.random.default_rng(7)
    p = rng.dirichlet(np.ones(24)).reshape(3, 4, 2)
    r, u1, u2, s = pid(p, unit="nats")
    outer = p.sum((0, 1))
    whole = np.sum(p * np.log(p / (p.sum(2, keepdims=True) * outer)))
    first = p.sum(1)
    alone = np.sum(first * np.log(first / (first.sum(1, keepdims=True) * outer)))
    assert np.isclose(r + u1 + u2 + s, whole, atol=1e-8)
    assert np.isclose(r + u1, alone, atol=1e-8)
    swapped = pid(p.transpose(1, 0, 2), unit="nats")
    assert np.allclose(swapped, (r, u2, u1, s), atol=1e-7)
    relabelled = pid(100 * p[[2, 0, 1]][:, :, ::-1], unit="bits")
    assert np.allclose(np.array(relabelled) * np.log(2), (r, u1, u2, s), atol=1e-7)


def test_independent_labels_tell_nothing():
    p = np.ones((3, 2, 4))
    assert np.allclose(pid(p), 0, atol=1e-8)


@pytest.mark.parametrize(
    "bad", [np.ones((2, 2)), -np.ones((2, 2, 2)), np.full((2, 2, 2), np.nan), np.zeros((2, 2, 2))]
)
def test_bad_joints(bad):
    with pytest.raises(InputError, match="joint"):
        pid(bad)


def test_bad_settings():
    with pytest.raises(UnknownNameError, match="unit"):
        pid(np.ones((2, 2, 2)), unit="bit")
    with pytest.raises(UnknownNameError, match="solver"):
        pid(np.ones((2, 2, 2)), solver="scs")


def test_joint_distribution_of_any_values():
    p = joint_distribution(np.array([5, 5, -1]), np.array(["a", "b", "a"]), np.array([0, 1, 1]))
    assert p.shape == (2, 2, 2)
    assert np.isclose(p[1, 0, 0], 1 / 3)
    with pytest.raises(InputError, match="examples"):
        joint_distribution(np.zeros(3), np.zeros(2), np.zeros(3))


def test_continuous_sources():
    """Labels cut from one source are unique to it; from a shared one, redundant."""
    threadpool_limits(1)  # k-means of small data is slowed down by threads
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1500, 2))
    y = (a[:, 0] * 1.0 > a[:, 1]).astype(int)
    unique = pid_continuous(a, b, y, clusters=6)
    shared = pid_continuous(a, a + 0.01 * b, y, clusters=6)
    assert unique.unique1 > 5 * max(unique.redundancy, unique.unique2, unique.synergy)
    assert shared.redundancy > 5 * max(shared.unique1, shared.unique2, shared.synergy)
    assert pid_continuous(a, b, y, clusters=6) == unique  # seeded
    with pytest.raises(InputError, match="clusters"):
        pid_continuous(a[:5], b[:5], y[:5])
    with pytest.raises(InputError, match="x2"):
        pid_continuous(a, b * np.nan, y)
