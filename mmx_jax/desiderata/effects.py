"""What depends on the model alone: effects, interactions and the best sets, once per example.

All explainers of an example share this record. Magnitudes are raw; thresholds need the range R of
the calibration split and are applied where examples are aggregated.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmx_jax.desiderata.constants import DEFAULTS, Constants
from mmx_jax.desiderata.sets import SetSearch, enumerated, greedy, removed_sets
from mmx_jax.gates import unflatten
from mmx_jax.intervention import value
from mmx_jax.mapping import map_stacked
from mmx_jax.typing import Inputs, Intervention, Model, Outputs, Target, record

__all__ = ["ModelEffects", "cross_pairs", "model_effects", "pair", "pairs"]


def pair(n: str, m: str) -> str:
    """The name of the pair "n's explanation when m moves"."""
    return f"{n}<-{m}"


def pairs(names: list[str] | dict[str, int]) -> list[tuple[str, str]]:
    """All ordered pairs (n, m), the diagonal included."""
    return [(n, m) for n in sorted(names) for m in sorted(names)]


def cross_pairs(names: list[str] | dict[str, int]) -> list[tuple[str, str]]:
    """All ordered pairs (n, m) of different modalities."""
    return [(n, m) for n, m in pairs(names) if n != m]


@record
class ModelEffects:
    """How one example's value depends on its modalities and units.

    Attributes:
      outputs: of the intact input.
      value: ``v(x) = outputs[target]``.
      effect: per modality, ``df_m = |v(x) - v(x_-m)|`` (eq. 2).
      interaction: per pair "n<-m", ``I_nm = |v(x) - v(x_-n) - v(x_-m) + v(x_-nm)|``.
      together: per pair, ``|v(x) - v(x_-nm)|``.
      unit_interaction: per pair, ``[units_n]``: the most that unit u of n adds to the interaction
        ``v(x) - v(x_-S) - v(x_-m) + v(x_-Sm)`` of any set S of n; so 0 for
        units that never interact, and not for those that another unit suppresses. Where not all
        sets are enumerated a lower bound: what it adds to the empty set and to all other units.
      set_interaction: per pair, the largest ``I`` with any set of units of n in place of n.
      largest: per modality and ``"joint"``, ``[units + 1]``: the largest effect of removing any
        set of at most k units; its last entry decides whether a modality is inactive.
      keeping: per modality and ``"joint"``, ``[units + 1]``: the smallest ``|v(x) - v(keep S)|``
        among sets of k units whose necessity share reaches the threshold (inf: none found).
    """

    outputs: Outputs
    value: Float[Array, ""]
    effect: dict[str, Array]
    interaction: dict[str, Array]
    together: dict[str, Array]
    unit_interaction: dict[str, Array]
    set_interaction: dict[str, Array]
    largest: dict[str, Array]
    keeping: dict[str, Array]


class _Rows:
    """The fixed gates of an example as one table without repeats, so the model is traced once."""

    def __init__(self, count: int):
        self.count, self.index = count, dict[bytes, int]()

    def add(self, removed: np.ndarray) -> np.ndarray:
        """Rows of removed sets ``[..., N]``; returns where their values will be ``[...]``."""
        flat = removed.reshape(-1, self.count)
        places = [self.index.setdefault(row.tobytes(), len(self.index)) for row in flat]
        return np.array(places, int).reshape(removed.shape[:-1])

    def table(self) -> np.ndarray:
        """All rows ``[rows, N]``."""
        return np.stack([np.frombuffer(row, bool) for row in self.index])


def model_effects(
    intervention: Intervention,
    model: Model,
    inputs: Inputs,
    target: Target,
    *,
    constants: Constants = DEFAULTS,
    chunk: int | None = None,
    sets: bool = True,
) -> ModelEffects:
    """Effects of modalities, units and sets of units on the value of one example.

    Groups of up to ``constants.exhaustive`` units have all their sets enumerated; larger ones are
    searched greedily both ways. Every gate goes through three traced copies of the model, whatever
    the number of modalities.

    Args:
      intervention: what removing a unit means.
      model: the model.
      inputs: of one example.
      target: the output that is explained, chosen on the intact input.
      constants: the necessity threshold and the size up to which sets are enumerated.
      chunk: model calls made at once.
      sets: search sets of units. Calibration needs none, and most model calls go into them: without
        them ``unit_interaction``, ``set_interaction``, ``largest`` and ``keeping`` are empty.
    """
    units = {name: intervention.units[name] for name in sorted(intervention.units)}
    names = list(units)
    count = sum(units.values())
    owner = np.repeat(np.arange(len(names)), list(units.values()))
    of = {name: owner == i for i, name in enumerate(names)}
    groups = of | {"joint": np.ones(count, bool)} if sets else {}

    rows = _Rows(count)
    none = rows.add(np.zeros(count, bool))
    gone = {name: rows.add(of[name]) for name in names}
    both = {pair(n, m): rows.add(of[n] | of[m]) for n, m in cross_pairs(names)}
    small = [g for g, mask in groups.items() if mask.sum() <= constants.exhaustive]
    tables = {g: rows.add(_subsets(groups[g])) for g in small}
    tables_gone = {
        pair(n, m): rows.add(_subsets(of[n]) | of[m]) for n, m in cross_pairs(names) if n in small
    }
    crossing = [(n, m) for n, m in cross_pairs(names) if n in groups and n not in small]
    ends = {n: rows.add(_ends(of[n])) for n, _ in crossing}
    ends_gone = {pair(n, m): rows.add(_ends(of[n]) | of[m]) for n, m in crossing}

    def outputs_without(removed: Array) -> Outputs:
        return intervention(model, inputs, unflatten(~removed, units))

    def without(removed: Array) -> Array:
        return value(intervention, model, inputs, target, unflatten(~removed, units))

    outputs = outputs_without(jnp.zeros(count, bool))
    v = map_stacked(without, jnp.asarray(rows.table()), chunk=chunk)
    intact = v[none]

    interaction, unit_interaction, set_interaction = {}, {}, {}
    for n, m in cross_pairs(names):
        name = pair(n, m)
        interaction[name] = jnp.abs(intact - v[gone[n]] - v[gone[m]] + v[both[name]])
        if n in small:
            change = intact - v[tables[n]] - v[gone[m]] + v[tables_gone[name]]
            set_interaction[name] = jnp.max(jnp.abs(change))
            cube = change.reshape((2,) * units[n])  # axis -1-u is unit u
            steps = [jnp.max(jnp.abs(jnp.diff(cube, axis=-1 - u))) for u in range(units[n])]
            unit_interaction[name] = jnp.stack(steps)
        elif n in groups:
            first, rest = intact - v[ends[n]] - v[gone[m]] + v[ends_gone[name]]
            last = intact - v[gone[n]] - v[gone[m]] + v[both[name]] - rest
            unit_interaction[name] = jnp.maximum(jnp.abs(first), jnp.abs(last))

    found = {g: enumerated(intact - v[tables[g]], constants.necessity) for g in small}
    large = [g for g in groups if g not in small]
    if large:
        universe = np.stack([groups[g] for g in large])
        search = greedy(
            lambda removed, _: intact - without(removed),
            universe,
            None,
            necessity=constants.necessity,
        )
        for i, g in enumerate(large):
            size = int(groups[g].sum()) + 1
            found[g] = SetSearch(search.largest[i, :size], search.keeping[i, :size])
    if crossing:
        alone = jnp.stack([intact - v[gone[m]] for _, m in crossing])

        def interacts(removed: Array, context: tuple[Array, Array]) -> Array:
            around, change = context
            one, two = jax.vmap(without)(jnp.stack([removed, removed | around]))
            return change - one + two

        search = greedy(
            interacts,
            np.stack([of[n] for n, _ in crossing]),
            (np.stack([of[m] for _, m in crossing]), alone),
        )
        for i, (n, m) in enumerate(crossing):
            set_interaction[pair(n, m)] = search.largest[i, -1]
    return ModelEffects(
        outputs=outputs,
        value=intact,
        effect={name: jnp.abs(intact - v[gone[name]]) for name in names},
        interaction=interaction,
        together={name: jnp.abs(intact - v[both[name]]) for name in both},
        unit_interaction=unit_interaction,
        set_interaction=set_interaction,
        largest={g: found[g].largest for g in sorted(found)},
        keeping={g: found[g].keeping for g in sorted(found)},
    )


def _ends(mask: np.ndarray) -> np.ndarray:
    """Each unit of a mask alone, and all others of the mask, as rows removed ``[2, units, N]``."""
    one = np.eye(mask.shape[0], dtype=bool)[mask]
    return np.stack([one, mask & ~one])


def _subsets(mask: np.ndarray) -> np.ndarray:
    """All subsets of the units in a mask, as rows of removed units ``[2**size, N]``."""
    rows = np.zeros((1 << int(mask.sum()), mask.shape[0]), bool)
    rows[:, mask] = removed_sets(int(mask.sum()))
    return rows
