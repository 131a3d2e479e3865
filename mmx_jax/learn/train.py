"""Trains an explainer: one compiled block of steps, resumable to the bit from its directory."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from mmx_jax.errors import MmxError
from mmx_jax.learn.constraints import Balance
from mmx_jax.learn.journal import Journal, made_with
from mmx_jax.learn.network import LearnedExplainer
from mmx_jax.learn.settings import Settings
from mmx_jax.learn.step import Program, State
from mmx_jax.numerics import derive_key

__all__ = ["DivergedError", "Progress", "Trained", "train_explainer"]

Progress = Callable[[int, int, float, dict[str, float]], None]
"""Called with (steps done, steps in all, seconds since the start, what was measured)."""


class DivergedError(MmxError):
    """A loss was not finite; the message names it and the step."""


class Trained(NamedTuple):
    """The outcome of training.

    Attributes:
      best: the explainer with the best evaluation, averaged weights.
      last: the explainer of the final step, averaged weights.
      state: the final state.
      history: one row per block, as in ``metrics.jsonl``.
    """

    best: LearnedExplainer
    last: LearnedExplainer
    state: State
    history: list[dict[str, Any]]


def train_explainer(
    network: nnx.Module,
    objective: Any,
    sample: Callable[..., Any],
    balance: Balance,
    settings: Settings,
    *,
    evaluate: Callable[[LearnedExplainer], dict[str, float]],
    directory: str | Path | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
    fixed_target: int = 0,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Minimises the losses of an objective over samples, and keeps the best evaluation.

    Args:
      network: a module ``(inputs, target) -> scores``; its parameters are trained.
      objective: a callable pytree ``objective(network, inputs, labels, targets, keys) ->
        {name: mean loss}`` of a batch; ``objective.outputs(inputs)`` of one example gives the
        outputs that targets are chosen from.
      sample: ``sample(key, n)``, a callable pytree whose result begins with inputs and labels.
      balance: weights and limits of the losses.
      settings: see :class:`Settings`.
      evaluate: from the explainer of the averaged weights to what is measured on held-out data;
        its ``"quality"`` decides which is best.
      directory: where checkpoints and ``metrics.jsonl`` go; nothing is written if None.
      resume: continue from the last checkpoint in ``directory``.
      about: what else decides the run (task, network); compared on resume.
      fixed_target: the target where ``settings.target`` is ``"fixed"``.
      mesh: devices to spread each batch over, from :func:`mmx_jax.example_mesh`; of several hosts
        after ``jax.distributed.initialize``, where every host calls this alike, the first one
        writes, and all can read the directory.
      progress: called after each block.

    Raises:
      DivergedError: a loss is not finite; the last good checkpoint is kept.
      InputError: settings that can't be used; a directory that holds another run, or on resume
        one that differs in more than :data:`~mmx_jax.learn.settings.MAY_CHANGE`; a damaged
        checkpoint.
    """
    settings.check(1 if mesh is None else mesh.size)
    graphdef, params = nnx.split(network)
    program = Program(graphdef, balance, settings, fixed_target, mesh)
    state = program.start(nnx.as_pure(params))
    sample = jax.tree_util.Partial(sample) if jax.tree_util.all_leaves([sample]) else sample
    key = derive_key(settings.seed, "training")
    arguments = program.replicated((objective, sample, key))
    balance.check(program.names(state, *arguments))
    config = {
        "settings": dataclasses.asdict(settings),
        "balance": dataclasses.asdict(balance),
        "about": about or {},
        "made_with": made_with(),
    }
    block = program.compiled()
    with Journal(directory, config, resume) as journal:
        best, quality, stale = state.average, -np.inf, 0
        history: list[dict[str, Any]] = []
        found = journal.restore(state, state.average)
        if found is not None:
            state, best, noted, history = found
            quality, stale = noted["quality"], noted["stale"]
        state = program.replicated(state)
        started, first = time.monotonic(), int(state.step)
        while int(state.step) < settings.total:
            if settings.patience and stale >= settings.patience:
                break
            state, losses = block(state, *arguments)
            step, means = int(state.step), _means(losses, int(state.step), journal.kept)
            average = program.local(state.average)
            measured = evaluate(LearnedExplainer(average, graphdef))
            better = measured["quality"] > quality
            quality, stale = (measured["quality"], 0) if better else (quality, stale + 1)
            if better:
                best = jax.tree.map(np.asarray, average)
            seconds = time.monotonic() - started
            row = {
                "step": step,
                "losses": means,
                "measured": measured,
                "limits": balance.report(means, _floats(state.multipliers)),
                "steps_per_second": (step - first) / seconds,
            }
            history.append(row)
            noted = {"quality": quality, "stale": stale}
            journal.write(row, state, best if better else None, noted)
            if progress:
                progress(step, settings.total, seconds, measured)
    return Trained(
        LearnedExplainer(jax.tree.map(jnp.asarray, best), graphdef),
        LearnedExplainer(program.local(state.average), graphdef),
        state,
        history,
    )


def _floats(tree: dict[str, Any]) -> dict[str, float]:
    return {name: float(x) for name, x in tree.items()}


def _means(losses: dict[str, Any], end: int, kept: str) -> dict[str, float]:
    """Mean losses of a block that ended at a step, all of them finite."""
    rows = {name: np.asarray(loss) for name, loss in losses.items()}
    broken = {n: np.flatnonzero(~np.isfinite(loss)) for n, loss in rows.items()}
    first = min((int(b[0]) for b in broken.values() if b.size), default=None)
    if first is not None:
        names = ", ".join(sorted(n for n, b in broken.items() if b.size and b[0] == first))
        step = end - len(next(iter(rows.values()))) + first + 1
        raise DivergedError(
            f"the loss {names} is not finite at step {step}: lower the learning rate or its "
            f"weight, and check the model on this data{kept}"
        )
    return {name: float(loss.mean()) for name, loss in rows.items()}
