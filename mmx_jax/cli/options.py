"""Options that several commands share: what is explained, how, and where results go."""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import tyro

from mmx_jax.cli.subject import Source
from mmx_jax.errors import InputError
from mmx_jax.mapping import example_mesh
from mmx_jax.typing import Inputs, Outputs

__all__ = ["Options", "mesh_of", "metavar", "not_yet", "one_of_two", "splitted"]


def metavar(name: str) -> Any:
    """How the help shows an option whose default is said in words."""
    return tyro.conf.arg(metavar=name, help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every command that explains something.

    Attributes:
      task: What is explained when there is no --model: digits, digits-shortcut, or a world whose
        truth is known (mixed, mixed3, gated, xor, redundant, duplicated, unique, cancelling,
        shortcut, sarcasm, suppressor, parity3, parity4, parity5, noisy, tabular-graphs).
      model: Your own model: a Python file and a function in it that takes no arguments and returns
        a pair of model and modalities. See experiments/own_model.py.
      data: Your own data: one array per modality with a leading axis of examples, slashes in nested
        names, and optionally an array named target, the output to be explained for each.
      explainers: Names separated by commas, or all. Gradients by saliency, input-x-gradient,
        smoothgrad, integrated-gradients, expected-gradients, mask (write NAME+occlusion where a
        modality holds integers). Removal by occlusion, permutation, rise, lime, shapley,
        within-shapley, kernelshap, owen, modality-shapley. Any of them as rescaled-NAME. Known
        contributions by truth. What mmx train made, by learned:DIR. Negative controls by
        control-NAME: constant, random, edges, edges-rescaled, blind, others-at-reference,
        wrong-model, uniform, smeared, reference-detector, normalised.
      seed: Of data, training, explanations and everything else that is drawn.
      out: A directory that is absent or empty; by default a new one beside you.
      link: On which scale outputs are explained, identity, softmax or log-odds. By default the
        model's own, softmax for models trained here.
      reference: What stands for a unit that is removed. Use own (as the modalities say), zero, mean
        or marginal (draws from other examples, averaged).
      chunk: Examples explained at once; less memory when smaller.
      devices: Spread examples over so many devices; on a CPU, so many parts of it.
      quick: A first look: shorter training, fewer examples and samples.
    """

    task: str = "digits"
    model: Annotated[str | None, metavar("FILE.py:BUILD")] = None
    data: Annotated[Path | None, metavar("FILE.npz")] = None
    explainers: Annotated[str | None, metavar("A,B,...")] = None
    seed: int = 0
    out: Annotated[Path | None, metavar("DIR")] = None
    link: Annotated[str | None, metavar("NAME")] = None
    reference: Annotated[str, tyro.conf.arg(metavar="NAME")] = "own"
    chunk: Annotated[int | None, metavar("INT")] = None
    devices: Annotated[int | None, metavar("INT")] = None
    quick: bool = False

    def source(self, examples: int | None, calibration: int) -> Source:
        """What is to be opened."""
        one_of_two(self)
        if self.chunk is not None and self.chunk < 1:
            raise InputError("chunk", f"is {self.chunk}", "use a positive number of examples")
        return Source(
            self.task,
            self.model,
            self.data,
            self.link,
            self.reference,
            self.seed,
            examples,
            calibration,
            self.quick,
        )


def one_of_two(command: Any) -> None:
    """Raises where a command was given a task beside a model; the default task counts as none."""
    if command.model is not None and command.task != type(command).task:
        raise InputError("task", f"is {command.task} beside a model", "give one of the two")


def not_yet(inputs: Inputs) -> Outputs:
    """Stands for a model that is not trained yet while the names of explainers are checked."""
    del inputs
    return jnp.zeros((1,))


def splitted(names: str) -> list[str]:
    """The names of a list with commas, without blanks."""
    return [name.strip() for name in names.split(",") if name.strip()]


def mesh_of(devices: int | None) -> Any:
    """A mesh of so many devices, or None for one; a CPU is cut into parts if it is early enough.

    Raises:
      InputError: more devices than there are.
    """
    if devices is None:
        return None
    if devices < 1:
        raise InputError("devices", f"is {devices}", "use a positive number")
    if "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # a running backend keeps the devices it has
            jax.config.update("jax_num_cpu_devices", min(devices, os.cpu_count() or 1))
    return None if devices == 1 else example_mesh(devices)
