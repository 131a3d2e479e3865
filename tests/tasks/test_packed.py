"""Packed worlds: the same functions as the declared ones, and one structure for many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.errors import InputError
from mmx_jax.tasks import TASKS, WORLDS, draw
from mmx_jax.tasks.packed import pack, packed_task


def test_a_packed_world_is_the_same_function():
    """On the world that has every operation; slopes too."""
    task = WORLDS["tabular-graphs"](4)
    batch = draw(task.sample, jax.random.key(0), 64)
    exact, packed = task.model.fn, pack(task.model.fn)

    @jax.jit
    def both(x):
        return [jax.vmap(jax.value_and_grad(lambda x, f=f: f(x)[1]))(x) for f in (exact, packed)]

    one, other = both(batch.inputs)
    assert len(jax.tree.leaves(one)) == 4
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    reads = jax.vmap(exact.unit_reads)(batch.inputs)
    for m, again in jax.vmap(packed.unit_reads)(batch.inputs).items():
        np.testing.assert_allclose(jnp.abs(again).max(-1), jnp.abs(reads[m]).max(-1), atol=1e-6)


def test_worlds_over_the_same_modalities_have_the_same_structure():
    tasks = [WORLDS[name](0) for name in ("xor", "gated", "mixed", "sarcasm")]
    packed = [packed_task(task, tasks) for task in tasks]
    trees = [jax.tree.structure((t.model, t.reference)) for t in packed]
    assert trees[0] == trees[1] == trees[2] != trees[3]
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(t.model)] for t in packed]
    assert shapes[0] == shapes[1] == shapes[2]
    assert dict(packed[0].reference.players) == {"image": 4, "text": 2}
    with pytest.raises(InputError, match="has no exact model"):
        packed_task(TASKS["digits"](0))
