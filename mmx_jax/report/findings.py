"""What an audit found, in plain language: every sentence is computed from its results."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mmx_jax.numerics import clopper_pearson
from mmx_jax.report.sentences import listed
from mmx_jax.report.svg import number
from mmx_jax.report.table import VERDICTS

__all__ = ["Finding", "findings", "order", "passes"]

TITLES = {"granger": "Granger", "faithfulness": "faithfulness", "stability": "stability"}

NAMED = 6
"""At most this many explainers are listed in a sentence."""


class Finding(NamedTuple):
    """A sentence, and whether it is good news, bad news or neither (``good``, ``bad``, ``""``)."""

    text: str
    tone: str = ""


def passes(entry: dict[str, Any]) -> int:
    """How many verdicts of an explainer are a pass."""
    return sum(entry["verdict"][v] == "pass" for v in VERDICTS)


def order(results: dict[str, Any], controls: list[str]) -> list[str]:
    """Explainers that aren't negative controls: most passes first, then fewest fails, then the
    share of examples on which the joint demands of faithfulness hold, then fewest calls.
    """
    known = {n: e for n, e in results["explainers"].items() if n not in controls}

    def place(name: str) -> tuple[Any, ...]:
        entry = known[name]
        fails = sum(entry["verdict"][v] == "fail" for v in VERDICTS)
        holds = (entry[part]["joint"]["holds"] for part in ("sufficiency", "necessity"))
        faithful = sum(x or 0.0 for x in (*holds, entry["own_set_holds"]["joint"]))
        return -passes(entry), fails, -faithful, entry["evaluations"], name

    return sorted(known, key=place)


def findings(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """The findings of an audit, the most important first.

    Args:
      results: what ``results.json`` holds.
      panels: what ``panels.json`` holds.
    """
    makers: tuple[Callable[..., list[Finding]], ...] = (
        _use, _together, _verdicts, _undecided, _claims, _faithful, _steep, _controls, _truth,
        _carried,
    )  # fmt: skip
    return [finding for make in makers for finding in make(results, panels)]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _use(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Which modality the model relies on."""
    use, count = panels["use"], results["examples"]["evaluation"]
    names = sorted(use, key=lambda n: (-use[n]["effect"], n))
    parts = [
        f"the {n} on {_percent(use[n]['active'])} (mean effect {number(use[n]['effect'])})"
        for n in names
    ]
    out = [Finding(f"The model uses {listed(parts)} of {count} held-out examples.")]
    for n in names:
        if use[n]["inactive"] >= 0.5:
            out.append(
                Finding(
                    f"The {n} changes nothing on {_percent(use[n]['inactive'])} of them: no set of "
                    f"its units moves the output by {number(results['constants']['inactive'])} of "
                    "its range."
                )
            )
    if panels.get("accuracy") is not None:
        out[0] = Finding(
            f"{out[0].text} It is right on {_percent(panels['accuracy'])} of fresh examples."
        )
    return out


def _together(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Interaction and redundancy of modalities."""
    del results
    out = []
    if panels["redundant"] > 0:
        out.append(
            Finding(
                f"On {_percent(panels['redundant'])} of the examples a modality is redundant: "
                "removing it alone hardly matters, because another one stands in for it, and tests "
                "of one modality at a time don't apply to it."
            )
        )
    if panels["interacting"] > 0:
        out.append(
            Finding(
                f"On {_percent(panels['interacting'])} of the examples they interact: what one "
                "adds depends on the other."
            )
        )
    return out


def _verdicts(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Who passes what."""
    names = order(results, panels["controls"])
    entries = results["explainers"]
    if not names:
        return []
    whole = [n for n in names if all(v != "fail" for v in entries[n]["verdict"].values())
             and passes(entries[n])]  # fmt: skip
    if whole:
        text = (
            f"{listed(whole, NAMED)} fail{'s' * (len(whole) == 1)} no desideratum that was judged"
        )
        out = [Finding(f"Of {len(names)} explainers, {text}.", "good")]
    else:
        best = names[0]
        failed = [v for v in VERDICTS if entries[best]["verdict"][v] == "fail"]
        whose = f"None of {len(names)} explainers is free of a fail; {best} comes closest and"
        whose = whose if len(names) > 1 else best
        out = [Finding(f"{whose} fails {listed([TITLES[v] for v in failed])}.", "bad")]
    told = []
    for verdict in VERDICTS:
        judged = [n for n in names if entries[n]["verdict"][verdict] != "not applicable"]
        held = [n for n in judged if entries[n]["verdict"][verdict] == "pass"]
        if judged:
            whose = f"passed by {listed(held, NAMED)}" if held else "passed by none"
            told.append(f"{TITLES[verdict]} is {whose} ({len(held)} of {len(judged)})")
    return [*out, Finding("; ".join(told) + ".")]


def _undecided(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Too few examples to tell the rates that a pass allows from none at all."""
    del panels
    count, constants = results["examples"]["evaluation"], results["constants"]
    allowed = min(constants["violations"], 1 - constants["holds"])
    could = clopper_pearson(0, count, constants["confidence"])[1]
    if could <= allowed:
        return []
    tail = 0.5 * (1 - constants["confidence"])
    enough = math.ceil(math.log(tail) / math.log1p(-allowed))
    return [
        Finding(
            f"A pass on {count} examples is a first look: even where none of them violates a "
            f"demand, up to {_percent(could)} of all may ({_percent(constants['confidence'])} "
            f"interval), and {_percent(allowed)} are allowed. {enough} examples or more can tell."
        )
    ]


def _claims(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Over-claim per modality: reaction where nothing depends on it."""
    limit, out = results["constants"]["overclaim"], []
    names = order(results, panels["controls"])
    for m in sorted(panels["use"]):
        measured = {  # where m goes and nothing depends on it
            n: e
            for n in names
            if (e := results["explainers"][n]["granger"][f"{m}<-{m}"].get("overclaim")) is not None
        }
        guilty = sorted((n for n in measured if measured[n] > limit), key=lambda n: -measured[n])
        if guilty:
            told = listed([f"{n} ({number(measured[n])})" for n in guilty], NAMED)
            claim = f"{told} still claim{'s' * (len(guilty) == 1)} it does"
            out.append(Finding(f"Where the {m} changes nothing, {claim}.", "bad"))
        elif measured:
            text = (
                f"Where the {m} changes nothing, no explanation of it moves by more than "
                f"{number(limit)} of a typical effect when it goes."
            )
            out.append(Finding(text, "good"))
    return out


def _faithful(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Sets that hold nearly everything explain nothing."""
    names = order(results, panels["controls"])
    sizes = {n: results["explainers"][n]["own_set"]["joint"] for n in names}
    wide = [n for n, size in sizes.items() if size is not None and size >= 0.8]
    if not wide:
        return []
    who = f"{listed(wide, NAMED)} mark{'s' * (len(wide) == 1)}"
    return [Finding(f"{who} 80 % of all units or more: that explains little.", "bad")]


def _steep(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Cross-modal instability: whose explanation moves most when another modality moves."""
    names, largest = order(results, panels["controls"]), None
    for name in names:
        for pair, entry in (results["explainers"][name]["stability"] or {}).items():
            n, _, m = pair.partition("<-")
            kinds = [entry.get(k) for k in ("point", "searched", "path")]
            known = [k for k in kinds if k is not None]
            if n != m and known and (largest is None or max(known) > largest[0]):
                largest = (max(known), name, n, m)
    if largest is None:
        return []
    size, name, n, m = largest
    return [
        Finding(
            f"The steepest cross-modal reaction is that of {name}: where the {m} moves a little, "
            f"its explanation of the {n} moves up to {number(size)} times as far."
        )
    ]


def _controls(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Negative controls must fail something."""
    known = [n for n in results["explainers"] if n in panels["controls"]]
    if not known:
        return []
    entries = results["explainers"]
    escaped = [n for n in known if all(v != "fail" for v in entries[n]["verdict"].values())]
    if escaped:
        return [
            Finding(
                f"{len(known) - len(escaped)} of {len(known)} negative controls fail as they "
                f"should; {listed(escaped, NAMED)} escape{'s' * (len(escaped) == 1)} every test "
                "here.",
                "bad",
            )
        ]
    every = f"All {len(known)} negative controls fail" if len(known) > 1 else f"{known[0]} fails"
    whose = "they" if len(known) > 1 else "it"
    return [Finding(f"{every} at least one desideratum, as {whose} should.", "good")]


def _truth(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Recovery of the known truth."""
    names = order(results, panels["controls"])
    known = {n: results["explainers"][n].get("truth") or {} for n in names}
    rates = {n: (t["tpr"], t["fdr"]) for n, t in known.items() if t.get("tpr") is not None}
    if not rates:
        return []
    found, false = max(rates.values(), key=lambda r: r[0] - r[1])
    best = [n for n in names if rates.get(n) == (found, false)]
    return [
        Finding(
            f"The true units are found best by {listed(best, NAMED)}: {_percent(found)} of them, "
            f"and {_percent(false)} of the units marked are others."
        )
    ]


def _carried(results: dict[str, Any], panels: dict[str, Any]) -> list[Finding]:
    """Which explainers carried the expensive columns."""
    carried = panels["stability"]
    if not carried:
        return [Finding("Stability was not measured.")]
    whole = len(carried) == len(results["explainers"])
    return [
        Finding(
            f"Stability, which costs far more than the other columns, was measured on "
            f"{results['examples']['stability']} examples for "
            f"{'every explainer' if whole else listed(carried, 8)}."
        )
    ]
