"""From a model and examples to a trained explainer, and from its directory back to it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mmx_jax.checks import check_inputs
from mmx_jax.desiderata.calibration import value_range
from mmx_jax.errors import InputError
from mmx_jax.intervention import FeatureGates
from mmx_jax.learn.build import NetworkSettings, build_network
from mmx_jax.learn.checkpoint import BEST, Checkpoints
from mmx_jax.learn.constraints import Balance
from mmx_jax.learn.evaluation import hold_out
from mmx_jax.learn.journal import read_config
from mmx_jax.learn.losses import Demands
from mmx_jax.learn.network import LearnedExplainer, as_explainer
from mmx_jax.learn.objectives import Desiderata, weighed
from mmx_jax.learn.origin import check_origin, describe_modalities, describe_model
from mmx_jax.learn.preparation import allowed_slope, draw_pool
from mmx_jax.learn.settings import Settings
from mmx_jax.learn.train import Progress, Trained, train_explainer
from mmx_jax.learn.unread import evidence_of_outputs, unread_modalities
from mmx_jax.mapping import map_examples
from mmx_jax.modality import Modality
from mmx_jax.model import as_callable, check_target
from mmx_jax.typing import Inputs, Model

__all__ = ["Recipe", "fit", "load"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that a person chooses about a learned explainer.

    Attributes:
      network: which network.
      demands: constants of Granger influence and faithfulness.
      slope: slopes of the explanation up to this cost nothing, of R per unit of the data; None
        chooses 1, or 1.5 times what alpha needs on the held-out inputs where that is more.
      pool: so many training examples are drawn and put to the model once, before training, rather
        than fresh ones in every step: where the model is costly. 0 for fresh ones.
      faithful_thinning: keeping and removing, which differentiates the model, is learned from one
        of so many examples of a batch.
      balance: weights and limits of the losses.
      settings: of training.
      path_slope: as ``slope``, along paths between examples, where the explanation must change by
        what alpha demands and a small slope may be out of reach; None for ``slope``.
    """

    network: NetworkSettings = dataclasses.field(default_factory=NetworkSettings)
    demands: Demands = dataclasses.field(default_factory=Demands)
    slope: float | None = None
    pool: int = 0
    faithful_thinning: int = 1
    balance: Balance = dataclasses.field(default_factory=weighed)
    settings: Settings = dataclasses.field(default_factory=Settings)
    path_slope: float | None = None

    def __post_init__(self) -> None:
        """Raises where a number of examples can't be used."""
        for name, least in (("pool", 0), ("faithful_thinning", 1)):
            if getattr(self, name) < least:
                raise InputError(name, f"is {getattr(self, name)}", f"use {least} or more")


def fit(
    model: Model,
    modalities: dict[str, Modality],
    sample: Callable[..., Any],
    held_out: Inputs,
    targets: np.ndarray,
    recipe: Recipe,
    *,
    directory: str | Path | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Trains an explainer of a model on the desiderata.

    A modality that never moves an output that is trained on, on the held-out examples and the pool,
    scores zero by construction (:mod:`mmx_jax.learn.unread`); ``config.json`` names it.

    Args:
      model: from inputs to outputs; it may hold any arrays as leaves.
      modalities: what is explained.
      sample: ``sample(key, n)`` whose result begins with inputs and labels: a task's sampler, or
        :class:`mmx_jax.models.Resample` of arrays.
      held_out: inputs that are not trained on; they fix the range R and choose the best weights.
      targets: of the held-out inputs; with ``settings.target = "fixed"`` the first is trained on.
      recipe: all settings.
      directory: of the run, from which :func:`load` and ``resume`` work; nothing is written if
        None.
      resume: continue the run in the directory.
      about: what else a reader of ``config.json`` should know; compared on resume.
      mesh: devices to spread batches over.
      progress: called after each block.

    Raises:
      InputError: inputs that don't fit the modalities, or targets the outputs; constants that
        contradict each other on the held-out inputs; see also :func:`train_explainer`.
    """
    if resume and directory is not None:
        check_origin(_about(directory), modalities, model, directory)
    check_inputs(modalities, {n: x for n, x in held_out.items() if n in modalities}, batched=True)
    gates = FeatureGates(modalities)
    model = as_callable(model)
    outputs = map_examples(model, held_out)
    _check_targets(targets, outputs)
    spread = value_range(outputs, targets)
    held = hold_out(gates, model, held_out, targets, spread, recipe.settings.seed)
    certifiable = recipe.network.kind == "certifiable"
    slope = allowed_slope(
        held,
        recipe.demands,
        recipe.slope,
        recipe.network.lipschitz if certifiable else None,
        recipe.path_slope,
    )
    fixed, pairs = int(targets[0]), max(4, recipe.demands.pairs)
    pool = None
    if recipe.pool:
        pool = draw_pool(gates, model, sample, recipe.pool, recipe.settings, fixed, pairs)
    known = [held.evidence] + ([] if pool is None else [pool.evidence])
    unread = unread_modalities(sorted(modalities), spread, *known)
    if unread and recipe.settings.target != "fixed":  # others may be read for other outputs
        known.append(evidence_of_outputs(gates, model, held_out, outputs.shape[-1]))
        unread = unread_modalities(sorted(modalities), spread, *known)
    objective = Desiderata(
        gates,
        model,
        jnp.asarray(spread, jnp.float32),
        pool,
        recipe.demands,
        slope,
        path_slope=recipe.path_slope,
        # what the certificate promises needs no loss
        thinning=recipe.settings.batch if certifiable else 4,
        faithful_thinning=recipe.faithful_thinning,
    )
    described = {
        "network": dataclasses.asdict(recipe.network),
        "demands": dataclasses.asdict(recipe.demands),
        "slope": slope,
        "path_slope": recipe.path_slope,
        "pool": recipe.pool,
        "faithful_thinning": recipe.faithful_thinning,
        "modalities": describe_modalities(modalities),
        "outputs": int(outputs.shape[-1]),
        "spread": spread,
        "unread": unread,
        "target": fixed if recipe.settings.target == "fixed" else None,
        "extra": sorted(set(held_out) - set(modalities)),
        "model": describe_model(model, held_out),
    }
    trained = train_explainer(
        build_network(
            recipe.network, modalities, outputs.shape[-1], spread, recipe.settings.seed, unread
        ),
        objective,
        sample if pool is None else pool,
        recipe.balance,
        recipe.settings,
        evaluate=held,
        directory=directory,
        resume=resume,
        about=(about or {}) | described,
        fixed_target=fixed,
        mesh=mesh,
        progress=progress,
    )
    best, last = (
        dataclasses.replace(e, only=described["target"]) for e in (trained.best, trained.last)
    )
    return trained._replace(best=best, last=last)


def load(
    directory: str | Path,
    modalities: dict[str, Modality],
    *,
    model: Model | None = None,
) -> LearnedExplainer:
    """The trained explainer of a run's directory: the weights that were best on held-out data.

    Args:
      directory: as :func:`fit` wrote it; training may still be going on.
      modalities: what is explained: those it was trained for, the reference aside.
      model: if given, the run must have been trained on a model with these very weights, and with
        its outputs, by which functions without weights are told apart.

    Raises:
      InputError: no run, a damaged checkpoint, other modalities, or another model.
    """
    about = _about(directory)
    check_origin(about, modalities, model, directory)
    unread = about.get("unread", ())
    try:
        network = NetworkSettings(**about["network"])
        fresh = as_explainer(
            build_network(network, modalities, about["outputs"], about["spread"], unread=unread)
        )
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(
            "directory", f"the configuration of {directory} is damaged ({error})", "train anew"
        ) from error
    with Checkpoints(directory, (BEST,), write=False) as saved:
        state = saved.restore(BEST, fresh.state)[1]
    state = jax.tree.map(jnp.asarray, state)
    return LearnedExplainer(state, fresh.graphdef, about.get("target"))


def _about(directory: str | Path) -> dict[str, Any]:
    """What the configuration of a run says of its model and network."""
    about = read_config(directory).get("about")
    about = about if isinstance(about, dict) else {}
    missing = {"modalities", "outputs", "spread", "network", "model"} - set(about)
    missing |= {"weights", "drawn", "answers"} - set(about.get("model", ()))
    if missing:
        raise InputError(
            "directory",
            f"{directory} is no run of fit: its configuration lacks {', '.join(sorted(missing))}",
            "train one",
        )
    return about


def _check_targets(targets: Any, outputs: np.ndarray) -> None:
    """Raises unless there is an output's number for each of the held-out inputs."""
    count, classes = outputs.shape
    if np.shape(targets) != (count,):
        raise InputError("targets", f"have shape {np.shape(targets)}", f"give ({count},)")
    check_target(targets, classes)
