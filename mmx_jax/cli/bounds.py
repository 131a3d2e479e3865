"""Bounds of explainers on a subject's examples: what ``mmx certify`` and the audit report."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from mmx_jax.certify import explanation_bounds
from mmx_jax.cli.console import Advance
from mmx_jax.cli.subject import Subject
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.numerics import derive_keys, is_inexact
from mmx_jax.typing import Explainer, Inputs

__all__ = [
    "FACTORS",
    "VACUOUS",
    "Certificates",
    "certificates",
    "certified_network",
    "certify_column",
    "radius_of",
]

FACTORS = (0.25, 0.5, 0.75, 1.0)
"""Shares of the radius at which bounds are drawn."""

VACUOUS = 10.0
"""A certified bound of more than so many times the searched one says nothing."""

_REASONS = {
    1: "no finite bound: within the radius an operation meets a pole, or the explanation jumps; "
    "a smaller radius or a tighter method may give one",
    2: "the sandwich is broken: a defect of the package, please report it",
    3: "the explanation has no finite derivative at the example",
}


@dataclasses.dataclass(frozen=True)
class Certificates:
    """What is to be certified.

    Attributes:
      radius: per modality.
      norm: 2 or infinity.
      method: of :func:`mmx_jax.certify.lipschitz_bounds`.
      examples: the first so many of the subject's.
      seed: of the explainers' keys.
      quick: a shorter search, and fewer radii.
    """

    radius: dict[str, float]
    norm: float
    method: str
    examples: int
    seed: int
    quick: bool

    @property
    def factors(self) -> tuple[float, ...]:
        """Shares of the radius that are looked at."""
        return FACTORS[1::2] if self.quick else FACTORS


def radius_of(text: str, example: Inputs) -> dict[str, float]:
    """A radius per modality from ``.05`` or ``image=.05,note=0``.

    A single number is meant for the modalities that hold real numbers; the others, and those not
    named, get 0.

    Raises:
      InputError: no number, one below 0 or infinite, an unknown modality, or one of integers with
        a radius.

    >>> radius_of("a=.5", {"a": np.zeros(2), "b": np.zeros(2)})
    {'a': 0.5, 'b': 0.0}
    """
    real = {n: any(is_inexact(leaf) for leaf in jax.tree.leaves(x)) for n, x in example.items()}
    if "=" not in text:
        value = _number("radius", text)
        return {name: value if real[name] else 0.0 for name in sorted(example)}
    out = dict.fromkeys(sorted(example), 0.0)
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError("radius", f"has {part!r}", "write NAME=NUMBER for each modality")
        if name not in out:
            raise UnknownNameError("radius for modality", name, out)
        out[name] = _number(f"radius of {name}", value)
        if out[name] > 0 and not real[name]:
            raise InputError(
                f"radius of {name}", f"is {value}, and it holds integers", "use 0 for it"
            )
    return out


def _number(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(what, f"is {text!r}", "use a number") from None
    if not math.isfinite(value) or value < 0:
        raise InputError(what, f"is {text}", "use a finite number, 0 or above")
    return value


def certificates(
    subject: Subject, explainer: Explainer, wanted: Certificates, advance: Advance | None = None
) -> dict[str, Any]:
    """The sandwich of one explainer, worst over the examples, and by radius.

    Returns:
      ``method``, ``lifted``, ``reason`` (null, or why there is nothing to be certified) and
      ``pairs``: by ``n<-m`` the constants ``point``, ``searched``, ``certified`` (largest over the
      examples), ``ratio`` (certified / searched, largest over the examples), ``vacuous``,
      ``reason``, and ``curve`` with both bounds at each share of the radius.
    """
    keys = derive_keys(wanted.seed, "explain", wanted.examples)
    search = {"restarts": 4, "steps": 16, "memory": 4e6} if wanted.quick else {}

    @jax.jit
    def bounds(model: Any, explain: Any, x: Any, target: Any, key: Any, factor: Any) -> Any:
        radius = {n: r * factor if r else 0.0 for n, r in wanted.radius.items()}
        network = certified_network(explain)
        if network is not None and wanted.norm == 2:
            from mmx_jax.learn.local import local_bounds  # other explainers do without it

            # compiling it takes two minutes; the tighter domains take longer, and were not measured
            method = "affine" if wanted.method == "auto" else wanted.method
            return local_bounds(network, x, target, key, radius, method=method)
        return explanation_bounds(
            model, explain, x, target, key, radius, wanted.norm, wanted.method, **search
        )

    found: dict[float, list[Any]] = {f: [] for f in wanted.factors}
    total = wanted.examples * len(wanted.factors)
    try:
        for i in range(wanted.examples):
            x = jax.tree.map(lambda leaf, i=i: leaf[i], subject.evaluation)
            for factor in wanted.factors:
                one = bounds(
                    subject.model,
                    explainer,
                    x,
                    subject.evaluation_targets[i],
                    keys[i],
                    np.float32(factor),
                )
                found[factor].append(jax.device_get(one))
                if advance is not None:
                    advance(sum(map(len, found.values())), total, 0.0)
    except InputError as error:
        return {"method": None, "lifted": None, "reason": str(error), "pairs": {}}
    whole = found[1.0]
    pairs = {f"{n}<-{m}": (n, m) for n, m in whole[0].point}
    return {
        "method": whole[0].method,
        "lifted": whole[0].lifted,
        "reason": None,
        "pairs": {
            shown: _cell(pair, whole)
            | {
                "curve": {
                    kind: [_worst(getattr(b, kind)[pair] for b in found[f]) for f in found]
                    for kind in ("searched", "certified")
                }
                | {"factor": list(found)}
            }
            for shown, pair in pairs.items()
        },
    }


def certified_network(explainer: Explainer) -> Any:
    """The network of a learned explainer that is certifiable by construction, or None."""
    network = getattr(explainer, "network", None)
    found = None if network is None else network()
    return found if hasattr(found, "certificate") else None


def certify_column(
    results: dict[str, Any],
    subject: Subject,
    explainers: dict[str, Explainer],
    wanted: Certificates,
    advance: Advance | None = None,
) -> None:
    """Fills the ``certified`` column of an audit's results, for explainers that carry stability.

    The bound is that of ``c E``, c the calibration, around the first of the judged examples. What
    can't be certified stays null, with its reason.
    """
    carriers = [n for n, entry in results["explainers"].items() if entry["stability"]]
    for done, name in enumerate(carriers):
        entry = results["explainers"][name]
        scale, reasons = entry["calibration"], entry["reasons"]
        found = certificates(subject, explainers[name], wanted)
        for pair, row in entry["stability"].items():
            cell = found["pairs"].get(pair)
            path = f"stability.{pair}.certified"
            if cell is None:
                n, m = pair.split("<-")
                reasons[path] = found["reason"] or f"{m} or the scores of {n} can't move a little"
            elif cell["certified"] is None:
                reasons[path] = cell["reason"]
            elif scale is None and cell["certified"] > 0:
                reasons[path] = "not calibrated"
            else:
                row["certified"] = cell["certified"] * (scale or 0.0)
                reasons.pop(path, None)
        if advance is not None:
            advance(done + 1, len(carriers), 0.0)


def _worst(values: Any) -> float | None:
    """The largest, None where one is infinite."""
    top = max(float(v) for v in values)
    return top if math.isfinite(top) else None


def _cell(pair: tuple[str, str], whole: list[Any]) -> dict[str, Any]:
    """One pair's constants at the full radius."""
    code = max(int(b.status[pair]) for b in whole)
    certified = _worst(b.certified[pair] for b in whole)
    # a bound of 0 is rounded up to the smallest number there is
    nothing = [float(b.certified[pair]) < np.finfo(np.float32).tiny for b in whole]
    ratios = [
        1.0 if zero else float(b.certified[pair] / b.searched[pair])
        for b, zero in zip(whole, nothing, strict=True)
        if zero or float(b.searched[pair]) > 0
    ]
    ratio = _worst(ratios) if code == 0 and len(ratios) == len(whole) else None
    return {
        "point": _worst(b.point[pair] for b in whole),
        "searched": _worst(b.searched[pair] for b in whole),
        "certified": certified if code == 0 else None,
        "ratio": ratio,
        "vacuous": code == 0 and (ratio is None or ratio > VACUOUS),
        "reason": _REASONS.get(code),
    }
