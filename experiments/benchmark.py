"""The leaderboard: every explainer on every world, judged by desiderata, truth and others' metrics.

    python -m experiments.benchmark --out runs/benchmark            (exact and trained, 5 seeds)
    python -m experiments.benchmark --models masked                 (trained with units removed)
    python -m experiments.benchmark --quick --out runs/quick        (1 seed, few examples)

Cell by cell in a work directory: stopped or killed at any moment, the same command goes on, and
ends with the same results.json bit for bit. With more worlds, explainers, models or seeds it goes
on from the cells that are there. ``leaderboard.html`` shows what it found.

An explainer or a world of your own is one short file, given with ``--add FILE.py``: a dictionary
EXPLAINERS from names to ``(modalities, setting) -> explainer``, or WORLDS from names to
``seed -> task``.

Time: exact models of all worlds and explainers took 13 minutes on one idle core for 5 seeds.
--quick takes 7 minutes on 2 cores. Trained models took 33 minutes on one core for the eight worlds
of images and texts, training included; the other eight, over three to five modalities or of many
units, take about twice as long.

Expected: the reference explanation is not beaten on any metric that claims to measure it, but for
tpr and joint sufficiency on tabular-graphs: a suppressor can hold less than a tenth of the whole,
and the own set of 90 % leaves it out. The results list these with who beats it, and every control
that a metric does not catch, with the reason.
"""

import dataclasses
import hashlib
import os
import platform
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments.blindness import blindness
from experiments.cell import Bench, bench, judge, row_of, trained
from experiments.leaderboard import render
from experiments.plan import APART, Options, Plan, cell, load, parts, planned
from experiments.ranking import METRICS, agreement, beaten, board, not_beaten
from experiments.resumable import WorkDirectory
from mmx_jax import map_examples
from mmx_jax.cli import explainers as table
from mmx_jax.cli.console import (
    Terminal,
    compile_quickly,
    multiply_exactly,
    use_compilation_cache,
)
from mmx_jax.cli.options import mesh_of
from mmx_jax.errors import InputError, MmxError
from mmx_jax.report.pictures import describe
from mmx_jax.runs import write_json
from mmx_jax.tasks import WORLDS, Task, identify
from mmx_jax.tasks.packed import packed_task

__all__ = ["run"]

COMMAND = (sys.executable, "-m", "experiments.benchmark")


def prepare(model: str, task: Task, seed: int, options: Options) -> tuple[Bench, dict[str, Any]]:
    """The bench of a world, and facts of the model that every row repeats."""
    effort, mesh = options.effort(model), mesh_of(options.devices)
    if model == "exact":
        return bench(task, seed, effort, mesh=mesh), {}
    net, right = trained(task, seed, effort.steps, incomplete=model == "masked")
    facts = {"accuracy": right, "truth holds": identify(task, seed, 16).from_data}
    return bench(task, seed, effort, net, mesh), facts


def checked(judged: Bench, world: str, name: str) -> Any:
    """An explainer from another file, which may do anything, tried on all judged examples."""
    what, part, task = f"explainer {name!r}", judged.judged, judged.task
    wanted = {m: modality.units for m, modality in task.modalities.items()}
    remedy = f"return finite scores {wanted} from explainer(model, inputs, target, key)"
    try:
        explainer = judged.explainers([name])[name]
        scores = map_examples(
            explainer, judged.model, part.inputs, part.targets, part.keys, in_axes=(None, 0, 0, 0)
        )
        shapes = {m: np.shape(score)[1:] for m, score in scores.items()}
    except MmxError:
        raise
    except Exception as error:  # whatever the file does
        problem = f"fails on {world} ({type(error).__name__}: {str(error).splitlines()[0]})"
        raise InputError(what, problem, remedy) from error
    if shapes != {m: (units,) for m, units in wanted.items()}:
        raise InputError(what, f"returns scores of shapes {shapes} on {world}", remedy)
    if not all(np.isfinite(score).all() for score in scores.values()):
        raise InputError(what, f"returns NaN or infinity on {world}", remedy)
    return explainer


def drawn(judged: Bench, world: str, names: list[str]) -> dict[str, Any]:
    """What the page draws of a world: the first example that has a relevant unit."""
    task, one = judged.task, judged.judged.first(1)
    scores = {}
    for name, explainer in judged.explainers(names).items():
        found = map_examples(
            explainer, judged.model, one.inputs, one.targets, one.keys, in_axes=(None, 0, 0, 0)
        )
        scores[name] = {m: np.asarray(s)[0] for m, s in found.items()}
    return {
        "world": world,
        "about": task.description,
        "mode": task.modes[int(judged.truth["mode"][0])],
        "modalities": {m: describe(modality) for m, modality in task.modalities.items()},
        "inputs": jax.tree.map(lambda x: np.asarray(x)[0], one.inputs),
        "relevant": {
            m: np.flatnonzero(np.asarray(r)[0]) for m, r in judged.truth["relevant"].items()
        },
        "scores": scores,
    }


def work(
    options: Options,
    plan: Plan,
    place: WorkDirectory,
    terminal: Terminal,
    mine: set[str],
    added: set[str],
) -> None:
    """Measures every cell of some worlds whose file is not there."""
    todo = [entry for entry in plan.cells(options.quick) if entry[1] in mine]
    parent = os.getppid()
    total = sum(len(names) for *_, names in todo)
    done = 0
    # all worlds, not the plan's: a cell must not depend on what else is measured
    alike = cache(lambda seed: [make(seed) for make in WORLDS.values()])
    with terminal.stage(f"judging {total} cells") as advance:
        for model, world, seed, names in todo:
            missing = [e for e in names if not place.has(cell(model, world, seed, e))]
            picture = f"pictures/{world}.json"
            draws = model == "exact" and seed == plan.seeds[0] and not place.has(picture)
            done += len(names) - len(missing)
            advance(done, total, 0.0)
            if not missing and not draws:
                continue
            advance.say(f"{world}, {model}, seed {seed}")
            task = packed_task(WORLDS[world](seed), alike(seed))
            judged, facts = prepare(model, task, seed, options)
            for name in missing:
                if options.part is not None and os.getppid() != parent:
                    raise SystemExit(1)  # whoever asked for this part is gone
                start = time.monotonic()
                if name in added:
                    explainer = checked(judged, world, name)
                else:
                    explainer = judged.explainers([name])[name]
                row = row_of(judge(judged, name, explainer)) | facts
                if facts and not facts["truth holds"]:
                    row |= dict.fromkeys(("tpr", "fdr", "rank correlation"))
                said = {"model": model, "world": world, "explainer": name, "seed": seed}
                place.write(cell(model, world, seed, name), said | row)
                spent = {"seconds": round(time.monotonic() - start, 3)}
                place.write(cell(model, world, seed, name).replace("cells", "timings", 1), spent)
                done += 1
                advance(done, total, 0.0)
            if draws:
                shown = [e for e in ("truth", "occlusion", *names) if e in names]
                place.write(picture, drawn(judged, world, list(dict.fromkeys(shown))[:2]))


def gather(options: Options, plan: Plan, place: WorkDirectory) -> dict[str, Any]:
    """The results as a pure function of the cells."""
    rows = [
        place.read(cell(model, world, seed, name))
        for model, world, seed, names in plan.cells(options.quick)
        for name in names
    ]
    controls = [name for name in plan.explainers if name in table.CONTROLS]
    tables: dict[str, Any] = {"leaderboard": board(rows, controls)}
    for model in plan.models:
        agreed = agreement(rows, model)
        title = f"agreement of metrics, {model} models"
        tables[title] = [{"metric": name} | agreed[name] for name in METRICS]
    tables["where the truth is beaten"] = beaten(rows)
    tables["known blindness"] = blindness(rows, controls)
    return {
        "schema": "experiment/1",
        "experiment": "benchmark",
        "options": place.read("config.json") | dataclasses.asdict(plan),
        "claims": not_beaten(rows),
        "tables": tables,
        "details": rows,
    }


def run(options: Options) -> dict[str, Any]:
    """Measures what is missing, writes the results and the page, and returns the results."""
    own = load(options.add)
    plan = planned(options)
    said = {k: v for k, v in dataclasses.asdict(options).items() if k not in APART}
    added = [hashlib.sha256(file.read_bytes()).hexdigest() for file in options.add]
    versions = {p: version(p) for p in ("mmx_jax", "jax", "jaxlib", "numpy")}
    config = said | {"add": added, "versions": versions, "python": platform.python_version()}
    out = options.out or Path("runs") / ("benchmark-quick" if options.quick else "benchmark")
    place = WorkDirectory(out, config)
    terminal = Terminal()
    shares = parts(plan, options.jobs)
    if options.part is not None:
        work(options, plan, place, terminal, shares[options.part], own)
        return {}
    place.drop("COMPLETE")  # the same directory may have served a smaller plan
    helpers = [
        subprocess.Popen(
            [*COMMAND, *sys.argv[1:], "--out", str(place.path), "--part", str(i)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for i in range(1, len(shares))
        if any(not place.has(name) for name in plan.files(options.quick, shares[i]))
    ]
    try:
        work(options, plan, place, terminal, shares[0], own)
        with terminal.stage("waiting for the other processes"):
            for helper in helpers:
                helper.wait()
    finally:
        for helper in helpers:
            helper.terminate()
    # what a process that failed left undone
    work(options, plan, place, terminal, set(plan.worlds), own)
    results = gather(options, plan, place)
    place.write("results.json", results)
    results = place.read("results.json")
    pictures = [
        place.read(f"pictures/{world}.json")
        for world in plan.worlds
        if place.has(f"pictures/{world}.json")
    ]
    command = "python -m experiments.benchmark" + " --quick" * options.quick
    page = render(results, pictures, command)
    place.write_with("leaderboard.html", lambda path: path.write_text(page, encoding="utf-8"))
    place.write_with("timings.json", lambda path: write_json(path, terminal.timings()))
    place.write_with("COMPLETE", lambda path: path.write_text("", encoding="utf-8"))
    return results


def main() -> None:
    """The command."""
    console = Console()
    try:
        options = tyro.cli(Options, prog="python -m experiments.benchmark", description=__doc__)
        use_compilation_cache()
        multiply_exactly()
        compile_quickly(most=options.quick)
        results = run(options)
    except MmxError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    if options.part is not None:
        return
    failed = [c for c in results["claims"] if not c["passed"]]
    console.print(f"{len(results['claims']) - len(failed)} of {len(results['claims'])} claims hold")
    console.print(f"written to {options.out or 'runs'}, the page is leaderboard.html there")
    for claim in failed:
        console.print(f"[red]FAIL[/] {claim['claim']}: {claim['value']}", highlight=False)


if __name__ == "__main__":
    main()
