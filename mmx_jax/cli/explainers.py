"""The explainers by their names on the command line, and how each is set up for a subject."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmx_jax import explainers as ex
from mmx_jax.cli.options import not_yet
from mmx_jax.desiderata.jacobian import not_differentiable
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.modality import Modality
from mmx_jax.numerics import derive_key, is_inexact
from mmx_jax.typing import Array, Explainer, Inputs, Model, record

__all__ = [
    "CONTROLS",
    "GRADIENT",
    "METHODS",
    "RESCALED",
    "UNSIGNED",
    "Setting",
    "build",
    "check_targets",
    "names",
]

RESCALED = "rescaled-"
"""Prefix of a method whose mass in each modality is set to that modality's effect."""

UNSIGNED = ("saliency", "smoothgrad", "rise", "mask")
"""Methods that say how much, not which way."""

LEARNED = "learned:"
"""Prefix of the directory of a run of ``mmx train``."""

EXACT_UNITS = 10
"""Up to so many units (1024 coalitions) Shapley values are enumerated, beyond they are sampled."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What explainers are built from.

    Attributes:
      modalities: what is explained.
      background: inputs of the calibration split; some methods need other examples.
      model: what is explained; one control explains another one.
      reference: the explainer that returns the truth of an analytic task, or None.
      quick: fewer samples.
      seed: of the background draws.
    """

    modalities: dict[str, Modality]
    background: Inputs
    model: Model
    reference: Explainer | None = None
    quick: bool = False
    seed: int = 0

    def samples(self, count: int) -> int:
        """A number of samples, a quarter of it when quick."""
        return max(4, count // 4) if self.quick else count

    def marginal(self, modalities: dict[str, Modality]) -> dict[str, Modality]:
        """The modalities with draws from the background, as some methods demand."""
        if all(m.draws for m in modalities.values()):
            return modalities
        count = min(8, len(jax.tree.leaves(self.background)[0]))
        key = derive_key(self.seed, "background")
        return {n: m.with_marginal(self.background[n], count, key) for n, m in modalities.items()}

    @functools.cached_property
    def no_gradient(self) -> str | None:
        """Why the model has no gradient, or None if it has one."""
        first = jax.tree.map(lambda x: jnp.asarray(x)[0], self.background)
        return not_differentiable(lambda x: {"": self.model(x)}, first, "the model")

    def integers(self) -> list[str]:
        """The modalities that hold only integers, on which no gradient is defined."""
        return [
            n
            for n in sorted(self.modalities)
            if not any(is_inexact(leaf) for leaf in jax.tree.leaves(self.background[n]))
        ]


Constructor = Callable[[dict[str, Modality], Setting], Explainer]


def _units(modalities: dict[str, Modality]) -> int:
    return sum(m.units for m in modalities.values())


def _shapley(modalities: dict[str, Modality], setting: Setting) -> Explainer:
    if _units(modalities) <= EXACT_UNITS:
        return ex.ExactShapley(modalities)
    return ex.PermutationShapley(modalities, pairs=setting.samples(16))


def _within_shapley(modalities: dict[str, Modality], setting: Setting) -> Explainer:
    if max(m.units for m in modalities.values()) <= EXACT_UNITS:
        return ex.WithinShapley(modalities)
    return ex.PermutationShapley(modalities, pairs=setting.samples(16), within=True)


def _mask(modalities: dict[str, Modality], setting: Setting) -> Explainer:
    """Extremal perturbation; GNNExplainer where all units are nodes or edges."""
    if all(m.kind in ("node", "edge") for m in modalities.values()):
        return ex.GNNExplainer(modalities, steps=setting.samples(100))
    return ex.ExtremalPerturbation(modalities, steps=setting.samples(100))


def _permutation(modalities: dict[str, Modality], samples: int) -> Explainer:
    rows = max(m.draws for m in modalities.values())
    return ex.FeaturePermutation(modalities, samples=min(samples, rows))


GRADIENT: dict[str, Constructor] = {
    "saliency": lambda m, s: ex.Saliency(m),
    "input-x-gradient": lambda m, s: ex.InputXGradient(m),
    "integrated-gradients": lambda m, s: ex.IntegratedGradients(m, steps=s.samples(32)),
    "expected-gradients": lambda m, s: ex.ExpectedGradients(s.marginal(m), samples=s.samples(32)),
    "smoothgrad": lambda m, s: ex.SmoothGrad(m, samples=s.samples(32)),
    "mask": _mask,
}
"""Methods that differentiate by the input or a soft gate: real data only."""

METHODS: dict[str, Constructor] = GRADIENT | {
    "occlusion": lambda m, s: ex.Occlusion(m),
    "rise": lambda m, s: ex.RISE(m, samples=s.samples(256)),
    "lime": lambda m, s: ex.LIME(m, samples=s.samples(256)),
    "permutation": lambda m, s: _permutation(s.marginal(m), s.samples(8)),
    "shapley": _shapley,
    "within-shapley": _within_shapley,
    "kernelshap": lambda m, s: ex.KernelSHAP(m, samples=s.samples(256)),
    "owen": lambda m, s: ex.OwenShapley(m, pairs=s.samples(16)),
    "modality-shapley": lambda m, s: ex.ModalityShapley(m),
}
"""Every method; each also as ``rescaled-...``."""


@record
class _Elsewhere:
    """Another model: a random linear reading of every entry, squashed. It uses all units."""

    weights: dict[str, Any]

    def __call__(self, inputs: Inputs) -> Array:
        parts = jax.tree.map(
            lambda w, x: jnp.tensordot(w, jnp.asarray(x, w.dtype), x.ndim), self.weights, inputs
        )
        return jnp.tanh(sum(jax.tree.leaves(parts)))


def _elsewhere(setting: Setting) -> _Elsewhere:
    """Weights by which the sum is of order one on the background."""
    first = jax.tree.map(lambda x: x[0], setting.background)
    outputs = jax.eval_shape(setting.model, first).shape[0]  # pyright: ignore
    leaves, tree = jax.tree.flatten(setting.background)
    keys = jax.random.split(derive_key(setting.seed, "another model"), len(leaves))
    weights = [
        jax.random.normal(k, (outputs, *x.shape[1:]))
        / (np.sqrt(np.sum(np.square(np.asarray(x, np.float32))) / len(x)) * len(leaves) + 1e-6)
        for k, x in zip(keys, leaves, strict=True)
    ]
    return _Elsewhere(jax.tree.unflatten(tree, weights))


def _base(modalities: dict[str, Modality], setting: Setting) -> Explainer:
    """The good explainer that a control spoils."""
    return setting.reference or METHODS["occlusion"](modalities, setting)


CONTROLS: dict[str, Constructor] = {
    "control-constant": lambda m, s: ex.Constant(m),
    "control-random": lambda m, s: ex.Random(m),
    "control-edges": lambda m, s: ex.EdgeDetector(m),
    "control-edges-rescaled": lambda m, s: ex.Rescaled(m, ex.EdgeDetector(m)),
    "control-blind": lambda m, s: ex.ModalityBlind(m, _base(m, s)),
    "control-others-at-reference": lambda m, s: ex.OthersAtReference(m, _base(m, s)),
    "control-wrong-model": lambda m, s: ex.WrongModel(ex.Occlusion(m), _elsewhere(s)),
    "control-uniform": lambda m, s: ex.UniformMass(m),
    "control-smeared": lambda m, s: ex.Smeared(m, _base(m, s)),
    "control-reference-detector": lambda m, s: ex.ReferenceDetector(m),
    "control-normalised": lambda m, s: ex.PerInputNormalised(_base(m, s)),
}
"""Explanations that are wrong by construction, each in one known way."""


def names() -> list[str]:
    """Every name that :func:`build` knows, without the ``rescaled-`` ones."""
    return [*METHODS, *CONTROLS, "truth"]


def build(wanted: list[str], setting: Setting, explicit: bool) -> dict[str, Explainer]:
    """Explainers by the name under which they are reported.

    A gradient method is not defined on a modality of integers. Among the defaults it is joined
    with occlusion there, and its name says so: ``saliency + occlusion(note)``. Asked for by
    itself it is an error, and ``saliency+occlusion`` asks for the joined one.

    Args:
      wanted: names.
      setting: what they are built from.
      explicit: whether a person asked for these, rather than for the defaults.

    Raises:
      UnknownNameError: with the nearest names.
      InputError: a gradient method asked for on integers; an empty list; a name twice.
    """
    if not wanted:
        raise InputError("explainers", "is empty", f"name some of {', '.join(names())}")
    out: dict[str, Explainer] = {}
    for name in wanted:
        shown, explainer = _one(name, setting, explicit)
        if shown in out:
            raise InputError("explainers", f"names {shown!r} twice", "name each once")
        out[shown] = explainer
    return out


def check_targets(explainers: dict[str, Explainer], targets: Any) -> None:
    """Raises where an explainer was trained for one output, and others are to be explained.

    Raises:
      InputError: naming the explainer and its output.
    """
    for name, explainer in explainers.items():
        only = getattr(getattr(explainer, "explainer", explainer), "only", None)
        others = sorted({int(t) for t in np.unique(np.asarray(targets))} - {only})
        if only is not None and others:
            raise InputError(
                "explainers",
                f"names {name}, trained for output {only} alone, where output "
                f"{', '.join(map(str, others))} is explained",
                f"explain output {only}, or train with --target random",
            )


def _one(name: str, setting: Setting, explicit: bool) -> tuple[str, Explainer]:
    modalities = setting.modalities
    if name.startswith(RESCALED):
        shown, explainer = _one(name.removeprefix(RESCALED), setting, explicit)
        return RESCALED + shown, ex.Rescaled(modalities, explainer)
    if name.startswith(LEARNED):
        from mmx_jax.learn import load  # other explainers do without it

        known = None if setting.model is not_yet else setting.model
        return name, load(name.removeprefix(LEARNED), modalities, model=known)
    if name == "truth":
        if setting.reference is None:
            raise InputError(
                "explainers", "names 'truth', which this task doesn't know", "use an analytic task"
            )
        return name, setting.reference
    first, plus, second = (part.strip() for part in name.partition("+"))
    table = METHODS | CONTROLS
    for part in (first, second) if plus else (first,):
        if part not in table:
            raise UnknownNameError("explainer", part, names())
    if first in GRADIENT and setting.no_gradient:
        raise InputError(
            "explainers",
            f"names {first!r}, which needs gradients: {setting.no_gradient}",
            "use occlusion or another method of removal",
        )
    integers = setting.integers() if first in GRADIENT else []
    if not integers:
        return first, table[first](modalities, setting)
    if explicit and not plus:
        raise InputError(
            "explainers",
            f"names {first!r}, which needs gradients, and {', '.join(integers)} holds integers",
            f"use {first}+occlusion, which explains that by occlusion",
        )
    return _joined(first, second or "occlusion", integers, setting)


def _joined(
    first: str, second: str, integers: list[str], setting: Setting
) -> tuple[str, Explainer]:
    """A gradient method on real modalities, another one on those of integers (eq. 1)."""
    if second in GRADIENT:
        raise InputError(
            "explainers", f"joins {first!r} with {second!r}", "the second must not need gradients"
        )
    parts: dict[str, Any] = {}
    for name, modality in setting.modalities.items():
        method = METHODS[second if name in integers else first]
        parts[name] = method({name: modality}, setting)
    shown = f"{first} + {second}({', '.join(integers)})"
    return shown, ex.Composite(parts)
