"""The mixed world beside a sound that is as loud as any modality and never read."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mmx_jax as mmx
from experiments.learn.judge import Bench
from mmx_jax.gates import flatten, own_set
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
    part = bench.judged
    axes = (None, 0, 0, 0)
    scores = mmx.map_examples(
        explainer, bench.model, part.inputs, part.targets, part.keys, in_axes=axes
    )
    most = scale * np.max(np.sum(np.abs(scores[NEVER]), -1)) / bench.spread

    def frames(one: Any) -> Any:
        where = jax.tree.map(jnp.zeros_like, one) | {NEVER: jnp.ones_like(one[NEVER])}
        return jnp.any(own_set(flatten(one)) & (flatten(where) > 0))

    return {"most": float(most), "named": float(np.mean(jax.vmap(frames)(scores)))}
