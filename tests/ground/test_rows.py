"""Rows: every unit's entries, and only those, fall into its row, and the way back is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.rows import Rows

MODALITIES = [
    Modality.patches((4, 6), 2),
    Modality.patches((6, 4, 3), (3, 2)),
    Modality.tokens(5, 3),
    Modality.frames(4, 2),
    Modality.columns(6),
    Modality.edges(3),
]


@pytest.mark.parametrize("modality", MODALITIES, ids=lambda m: f"{m.kind}{m.units}")
def test_a_row_holds_the_entries_that_its_units_gate_and_joins_back(modality):
    rows = Rows.of(modality)
    assert rows.units == modality.units
    data = jnp.arange(1.0, 1 + rows.units * rows.size).reshape(rows.shape)
    table = rows.split(data)
    assert table.shape == (rows.units, rows.size)
    np.testing.assert_array_equal(rows.join(table), data)
    for unit in range(rows.units):
        gate = jnp.arange(rows.units) == unit
        kept = modality.blend(data, gate)
        assert set(np.asarray(kept[kept != 0])) == set(np.asarray(table[unit]))
    np.testing.assert_allclose(modality.reduce(data), table.sum(-1))
    assert hash(rows) == hash(Rows.of(modality))
    np.testing.assert_array_equal(jax.jit(rows.split)(data), table)


def test_marginal_references_count_no_row_for_the_draws():
    modality = Modality.tokens(5, 3).with_marginal(jnp.zeros((7, 5, 3)), 4, jax.random.key(0))
    assert Rows.of(modality) == Rows.of(Modality.tokens(5, 3))


def test_the_rows_of_a_graph_are_its_features():
    modality = Modality.nodes(3, 2)
    rows = Rows.of(modality)
    graph = {"features": jnp.arange(6.0).reshape(3, 2), "adjacency": jnp.ones((3, 3))}
    table = rows.split(graph)
    np.testing.assert_array_equal(table, graph["features"])
    back = rows.join(2 * table, {"adjacency": graph["adjacency"]})
    np.testing.assert_array_equal(back["features"], 2 * graph["features"])
    np.testing.assert_array_equal(back["adjacency"], graph["adjacency"])
    assert (rows.units, rows.size) == (3, 2)


def test_other_data_are_refused():
    for modality in (Modality.edges(3, nodes=3), Modality(groups=np.array([0, 0, 1]))):
        with pytest.raises(InputError, match="no row per unit"):
            Rows.of(modality)
