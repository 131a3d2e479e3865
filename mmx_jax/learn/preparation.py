"""What is settled before training starts: the slope that is allowed, and a pool of examples."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmx_jax.errors import InputError
from mmx_jax.intervention import FeatureGates
from mmx_jax.learn.constraints import check_constants, needed_slope
from mmx_jax.learn.evaluation import HeldOut
from mmx_jax.learn.losses import Demands, interactions
from mmx_jax.learn.objectives import Pool, gather_pool
from mmx_jax.learn.settings import Settings
from mmx_jax.mapping import map_examples
from mmx_jax.numerics import derive_key, partition, safe_norm
from mmx_jax.typing import Model

__all__ = ["allowed_slope", "draw_pool"]


def allowed_slope(
    held: HeldOut,
    demands: Demands,
    slope: float | None,
    certificate: float | None,
    path_slope: float | None = None,
) -> float:
    """The slope of an explanation that costs nothing, of R per unit of the data.

    Args:
      held: examples on which influence must have room.
      demands: alpha and the slack of Granger influence.
      slope: that was asked for, or None for 1, or 1.5 times what alpha needs where that is more.
      certificate: of a certifiable network, or None.
      path_slope: that was asked for along paths; None for ``slope``.

    Raises:
      InputError: a slope that is negative or not finite; one (that along paths, where both are
        given) or a certificate that leaves no room for alpha.
    """
    for name, number in (("slope", slope), ("path_slope", path_slope)):
        if number is not None and not 0 <= number < float("inf"):
            raise InputError(name, f"is {number}", "use a finite number, 0 or above")
    modalities = held.intervention.modalities  # pyright: ignore[reportAttributeAccessIssue]
    names, spread = sorted(modalities), float(held.spread)
    effects = jax.vmap(lambda e: interactions(e, names))(held.evidence)

    def distance(name: str, data: Any) -> Array:
        modality = modalities[name]

        def to(draw: Any) -> Array:
            gone = modality.blend(data, jnp.zeros((modality.units,), bool), draw)
            return safe_norm(jax.tree.map(jnp.subtract, partition(data)[0], partition(gone)[0]))

        # influence is an average over draws, and so is what a slope allows of it
        return jnp.mean(jax.vmap(to)(jnp.arange(max(1, modality.draws))))

    real = [n for n in names if modalities[n].kind != "token id"]
    known = (
        {n: effects[n] for n in real},
        {n: jax.vmap(lambda x, n=n: distance(n, x))(held.inputs[n]) for n in real},
        {n: modalities[n].units for n in real},
        demands.alpha,
        demands.slack * spread,
    )
    # what must change by much need not do so around the data, but must between them
    for most in (slope if path_slope is None else path_slope, certificate):
        if most is not None:
            check_constants(*known, most * spread)
    if slope is not None:
        return slope
    return max(1.0, 1.5 * max(needed_slope(*known).values(), default=0.0) / spread)


def draw_pool(
    gates: FeatureGates,
    model: Model,
    sample: Callable[..., Any],
    rows: int,
    settings: Settings,
    fixed: int,
    pairs: int,
) -> Pool:
    """Training examples with a target each, put to the model once.

    Args:
      gates: what removing a unit means.
      model: that is explained.
      sample: ``sample(key, n)``, whose result begins with inputs.
      rows: how many.
      settings: of training, which choose targets and the seed.
      fixed: the target where it is fixed.
      pairs: drawn sets of units per modality, each with its complement.
    """
    for_data, for_target, for_sets = jax.random.split(derive_key(settings.seed, "pool"), 3)
    inputs = jax.jit(lambda key: sample(key, rows)[0])(for_data)
    if settings.target == "fixed":
        targets = np.full(rows, fixed, np.int32)
    else:
        outputs = map_examples(model, inputs)
        targets = np.argmax(outputs, -1).astype(np.int32)
        if settings.target == "random":
            drawn = jax.random.randint(for_target, targets.shape, 0, outputs.shape[-1], jnp.int32)
            targets = np.asarray(drawn)
    return gather_pool(gates, model, inputs, targets, for_sets, pairs)
