"""What one example's explanation says in words, naming only units that pass keep and remove."""

import re
from collections.abc import Sequence
from typing import Any

from mmx_jax.report.pictures import unit_names
from mmx_jax.report.svg import number

__all__ = ["agreement", "listed", "sentence"]

NAMED = 4
"""At most this many units are named; the rest are counted."""


def listed(names: Sequence[str], most: int | None = None) -> str:
    """Names as a person lists them.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], 2)
    ('a, b and c', 'a, b and 1 more')
    """
    names = list(names)
    if most is not None and len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sentence(
    example: dict[str, Any], explanation: dict[str, Any], specs: dict[str, dict[str, Any]]
) -> str:
    """One sentence: why the model answers so, according to one explanation.

    Units are named only where a set of them, the highest-ranked ones of its modality, passes both
    tests on this example: keeping it suffices and removing it hurts nearly as much as removing
    any set of its size. The smallest such set is named.

    Args:
      example: one entry of ``panels["examples"]``.
      explanation: one of its explanations.
      specs: the modalities, from :func:`~mmx_jax.report.pictures.describe`.
    """
    reasons, despite, rest = [], [], []
    signed = explanation.get("signed", True)
    redundant = set(example["redundant"])
    for name in sorted(specs):
        df, state = number(abs(example["effects"][name])), example["state"][name]
        named = explanation["named"][name]
        if name in redundant:
            continue
        if state == "inactive":
            rest.append(f"the {name} changes nothing (df {df})")
        elif state == "active" and named:
            favours = sum(explanation["scores"][name][u] for u in named) >= 0
            fits = not signed or favours == bool(example["predicted"])
            verb = {True: "shows it", False: "speaks against it"}[favours] if signed else "matters"
            clause = _clause(name, specs[name], example["inputs"][name], named, verb, fits)
            (reasons if fits else despite).append(clause)
        elif state == "active":
            rest.append(
                f"the {name} matters (df {df}), but no units marked there both suffice and are "
                "needed"
            )
        elif state == "in parts":
            rest.append(
                f"removing all of the {name} changes next to nothing (df {df}), though parts of it "
                "matter"
            )
        else:
            rest.append(f"the {name} changes little (df {df})")
    if redundant:
        told = [f"the {n} (df {number(abs(example['effects'][n]))})" for n in sorted(redundant)]
        alone = len(told) == 1
        rest.append(
            f"{listed(told)} only repeats what is said elsewhere"
            if alone
            else f"{listed(told)} stand in for each other"
        )
    says = "says" if example["predicted"] else "does not say"
    opening = f"The model {says} {example['target_name']} ({number(example['value'])})"
    because = f" because {' and because '.join(reasons)}" if reasons else ""
    although = f"{',' * bool(reasons)} although {' and '.join(despite)}" if despite else ""
    return "; ".join([opening + because + although, *rest]) + "."


def _clause(
    name: str, spec: dict[str, Any], data: Any, named: Sequence[int], verb: str, fits: bool
) -> str:
    """What the named units say: after "because" where it fits the answer, else after "although"."""
    names = unit_names(spec, data)
    chosen = [names[u] for u in named]
    if spec["kind"] == "token id":
        return f"the {name} says {listed([repr(w) for w in chosen], NAMED)}"
    if spec["kind"] == "patch":
        return f"the {name} {verb} at {listed(_merge(chosen), NAMED)}"
    told = f"{listed(_merge(chosen), NAMED)} in the {name}"
    return f"of {told}" if fits else f"{told} say{'s' * (len(chosen) == 1)} otherwise"


def _merge(names: Sequence[str]) -> list[str]:
    """``patch (1, 2), patch (3, 3)`` becomes ``patches (1, 2), (3, 3)``."""
    head = names[0].partition(" ")[0]
    numbered = all(re.fullmatch(rf"{re.escape(head)} [\d(][\d(), -]*", n) for n in names)
    if len(names) > 1 and numbered:
        plural = {"patch": "patches"}.get(head, head + "s")
        rest = [n.removeprefix(head + " ") for n in names]
        return [f"{plural} {rest[0]}", *rest[1:]]
    return list(names)


def agreement(example: dict[str, Any], explanation: dict[str, Any]) -> str:
    """Whether the explanations of the active modalities speak for the same answer.

    It compares the signs of ``sum_u E_m,u`` over the modalities that are active on this example.
    """
    active = [n for n, state in sorted(example["state"].items()) if state == "active"]
    if not active:
        return "No modality is active alone."
    if not explanation.get("signed", True):
        return "The method has no sign: it says how much each modality matters, not which way."
    if len(active) == 1:
        return f"Only the {active[0]} is active, so there is nothing to compare."
    sums = {n: sum(explanation["scores"][n]) for n in active}
    speaks_for = [n for n in active if sums[n] > 0]
    against = [n for n in active if sums[n] < 0]
    silent = [n for n in active if sums[n] == 0]
    if silent:
        return f"The explanation is silent on {listed(['the ' + n for n in silent])}."
    if not (against and speaks_for):
        whose, way = listed(["the " + n for n in active]), "for" if speaks_for else "against"
        return f"The modalities agree: {whose} speak {way} it."
    return (
        f"The modalities disagree: {listed(['the ' + n for n in speaks_for])} for it, "
        f"{listed(['the ' + n for n in against])} against it."
    )
