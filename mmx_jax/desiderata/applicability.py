"""Where the per-modality tests apply, and the smallest set that a good explanation could name.

All of it depends on the model alone. Inputs: records with a leading axis of examples.
"""

import numpy as np

from mmx_jax.desiderata.constants import Constants
from mmx_jax.desiderata.effects import ModelEffects, pair

__all__ = ["inactive", "redundant", "smallest", "unused"]


def inactive(effects: ModelEffects, spread: float, constants: Constants) -> dict[str, np.ndarray]:
    """Per modality ``[examples]``: no set of its units reaches ``constants.inactive`` R."""
    return {
        m: np.asarray(effects.largest[m])[:, -1] < constants.inactive * spread
        for m in effects.effect
    }


def unused(effects: ModelEffects, spread: float, constants: Constants) -> dict[str, np.ndarray]:
    """Per modality ``[examples]``: it is inactive and interacts with no other modality."""
    out = inactive(effects, spread, constants)
    for m in effects.effect:
        for n in effects.effect:
            if n != m:
                for name in (pair(m, n), pair(n, m)):
                    apart = np.asarray(effects.set_interaction[name]) < constants.inactive * spread
                    out[m] = out[m] & apart
    return out


def redundant(effects: ModelEffects, spread: float, constants: Constants) -> dict[str, np.ndarray]:
    """Per modality ``[examples]``: others stand in for it.

    None of its sets is active while the others are whole, yet it interacts with one of them
    (I large, df small), and in their absence it holds up the output: without n, what m still says
    makes the loss smaller than without both, ``|v(x) - v(x_-nm)| - df_n > active R``. What it says
    is said elsewhere, and only the joint test can see it. Where the loss is not smaller, one
    suppresses the other, or the model only reacts to the gap that n leaves.
    """
    out = {}
    for m in effects.effect:
        quiet = np.asarray(effects.largest[m])[:, -1] <= constants.active * spread
        shared = np.zeros(quiet.shape, bool)
        for n in effects.effect:
            if n != m:
                name = pair(n, m)
                held = np.asarray(effects.together[name]) - np.asarray(effects.effect[n])
                both = np.minimum(effects.interaction[name], held)
                shared |= both > constants.active * spread
        out[m] = quiet & shared
    return out


def smallest(effects: ModelEffects, spread: float, constants: Constants) -> dict[str, np.ndarray]:
    """Size of the smallest set that is sufficient and necessary, per modality and jointly.

    A set counts where the largest removal effect of its size is at least ``constants.counted`` R,
    so a set whose removal does nothing never meets necessity. NaN where no set has an effect.
    """
    out = {}
    for group, largest in effects.largest.items():
        error = np.asarray(effects.keeping[group])
        meets = (np.asarray(largest) >= constants.counted * spread) & (
            error <= constants.sufficiency * spread
        )
        out[group] = np.where(meets.any(1), meets.argmax(1), np.nan)
    return out
