"""The mixed world beside a sound that is as loud as any modality and never read."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.beside import explain
from experiments.learn.judge import Bench
from mmx_jax.gates import flatten, own_set, unflatten
from mmx_jax.tasks import Task, mixed, mixed3
from mmx_jax.tasks.algebra import Place
from mmx_jax.tasks.world import world
from mmx_jax.typing import Explainer

__all__ = ["NEVER", "claimed", "unused"]

NEVER = "audio"
"""The modality that no example uses."""


def unused(seed: int = 0) -> Task:
    """Mixed, each example with a sound one frame of which carries a marker that nothing reads."""
    base = mixed(seed)
    known: Any = base.reference
    hiss = Place(NEVER, 5, "u", relevant=False)
    return world(
        "unused",
        seed,
        base.modalities | {NEVER: mixed3(seed).modalities[NEVER]},
        known.world.terms,
        [mode._replace(places=(*mode.places, hiss)) for mode in base.declared],
        "As mixed, beside a sound that is never read.",
    )


def claimed(bench: Bench, explainer: Explainer, scale: float) -> dict[str, float]:
    """What an explanation says of the sound.

    Returns:
      ``most``: the largest sum of absolute scores over all judged examples, calibrated, of R;
      ``named``: the share of examples in whose own set a frame of it stands.
    """
    scores = explain(explainer, bench.model, bench.judged, None)
    most = scale * np.max(np.sum(np.abs(scores[NEVER]), -1)) / bench.spread
    units = {name: score.shape[-1] for name, score in scores.items()}

    def frames(one: Any) -> Any:
        return jnp.any(unflatten(own_set(flatten(one)), units)[NEVER])

    return {"most": float(most), "named": float(np.mean(jax.vmap(frames)(scores)))}
