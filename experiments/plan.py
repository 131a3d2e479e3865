"""What the leaderboard is to measure: options, worlds, explainers, and how they are shared out."""

import dataclasses
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from experiments.cell import Effort
from experiments.common import Run
from mmx_jax.cli import explainers as table
from mmx_jax.cli.options import splitted
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.tasks import WORLDS

__all__ = ["APART", "Options", "Plan", "cell", "load", "parts", "planned"]

Names = Annotated[str | None, tyro.conf.arg(metavar="A,B,...")]

DEFAULT = [
    "truth",
    *table.METHODS,
    "rescaled-within-shapley",
    "rescaled-occlusion",
    *table.CONTROLS,
]
APART = (
    *("out", "devices", "jobs", "part"),
    *("worlds", "explainers", "models", "seeds_count", "trained_seeds", "seed"),
)
"""Options that change nothing in a cell: where and how it is measured, and which ones are."""
QUICK_TRAINED = ("noisy",)
QUICK_TRAINED_EXPLAINERS = ("occlusion", "shapley", "integrated-gradients", "control-uniform")


@dataclasses.dataclass(frozen=True)
class Options(Run):
    """Options of the leaderboard."""

    worlds: Names = None
    """Worlds separated by commas; all by default."""
    explainers: Names = None
    """Explainers by their names in mmx audit; all by default."""
    models: Names = None
    """exact, trained (both by default), masked: trained with units removed at random."""
    seeds_count: int | None = None
    """How many seeds; 5 by default, 1 with --quick."""
    trained_seeds: int | None = None
    """How many of them also train a model in every world; all by default."""
    examples: int | None = None
    """Judged per cell; by default 32 of exact models, 16 of trained ones, 10 with --quick."""
    devices: int | None = None
    """Spread examples over so many devices."""
    jobs: int = 2
    """Processes at work; each takes worlds that share programs."""
    part: int | None = None
    """Only this share of the jobs; how the processes call each other."""
    add: tuple[Path, ...] = ()
    """Files with explainers and worlds of your own."""

    def effort(self, model: str) -> Effort:
        """How thoroughly a cell is measured.

        Without Jacobians, which no column shows and which take half of the time: stability is that
        of differences, in a ball and on paths (``mmx audit`` has all three). A trained network
        costs more than an exact model: it is judged on half the examples, with a quarter of the
        explainers' samples.
        """
        if self.quick:
            return Effort(self.examples or 10, 8, 2, 1, False, True, 300)
        if model != "exact":
            steps = 3000 if model == "masked" else 1000
            return Effort(self.examples or 16, 32, 4, 1, point=False, quick=True, steps=steps)
        return Effort(self.examples or 32, 32, 8, 2, point=False)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be measured: all cells, in an order in which neighbours share programs."""

    worlds: tuple[str, ...]
    explainers: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    trained_seeds: int | None = None

    def cells(self, quick: bool) -> list[tuple[str, str, int, list[str]]]:
        """(model, world, seed, explainers), one seed after the other."""
        out = []
        for model in self.models:
            names = [e for e in self.explainers if model == "exact" or e != "truth"]
            worlds = self.worlds
            if quick and model != "exact":
                names = [e for e in names if e in QUICK_TRAINED_EXPLAINERS] or names[:1]
                worlds = tuple(w for w in worlds if w in QUICK_TRAINED)
            seeds = self.seeds if model == "exact" else self.seeds[: self.trained_seeds]
            out += [(model, world, seed, names) for seed in seeds for world in worlds]
        return out

    def files(self, quick: bool, worlds: set[str]) -> list[str]:
        """The files of all cells of some worlds."""
        return [
            cell(model, world, seed, name)
            for model, world, seed, names in self.cells(quick)
            for name in names
            if world in worlds
        ]


def load(files: tuple[Path, ...]) -> set[str]:
    """Adds the explainers and worlds of other files to those of the package.

    Returns:
      the names of the explainers.
    """
    added: set[str] = set()
    for file in files:
        spec = spec_from_file_location(file.stem, file) if file.is_file() else None
        if spec is None or spec.loader is None:
            problem = "is no Python file" if file.is_file() else "does not exist"
            raise InputError("add", f"{file} {problem}", "give a path that ends in .py")
        module = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # whatever the file does
            problem = f"{file} fails ({type(error).__name__}: {error})"
            raise InputError("add", problem, "mend it") from error
        found = {name: getattr(module, name, {}) for name in ("EXPLAINERS", "WORLDS")}
        if not any(found.values()):
            raise InputError("add", f"{file} adds nothing", "define EXPLAINERS or WORLDS in it")
        table.METHODS.update(found["EXPLAINERS"])
        WORLDS.update(found["WORLDS"])
        DEFAULT.extend(name for name in found["EXPLAINERS"] if name not in DEFAULT)
        added.update(found["EXPLAINERS"])
    return added


def planned(options: Options) -> Plan:
    """Checks the names and makes the plan."""

    def chosen(given: str | None, known: list[str], what: str) -> tuple[str, ...]:
        names = known if given is None else splitted(given)
        for name in names:
            if name not in known:
                raise UnknownNameError(what, name, known)
        return tuple(names)

    for name in ("seeds_count", "trained_seeds", "examples"):
        given = getattr(options, name)
        if given is not None and given < 1:
            raise InputError(name, f"is {given}", "use 1 or more")
    count = options.seeds_count or (1 if options.quick else 5)
    return Plan(
        chosen(options.worlds, list(WORLDS), "world"),
        chosen(options.explainers, DEFAULT, "explainer"),
        chosen(options.models or "exact,trained", ["exact", "trained", "masked"], "model"),
        tuple(options.seeds(count)),
        options.trained_seeds,
    )


def cell(model: str, world: str, seed: int, explainer: str) -> str:
    """The file of a cell."""
    return f"cells/{model}/{world}/{seed}/{explainer}.json"


def parts(plan: Plan, jobs: int) -> list[set[str]]:
    """The worlds of each process: those over the same modalities share programs, so stay together.

    The groups with the most compiling to do, those of many modalities, are dealt out first.
    """
    groups: dict[Any, list[str]] = {}
    for world in plan.worlds:
        shape = jax.tree.structure(WORLDS[world](0).modalities)
        groups.setdefault(shape, []).append(world)
    order = sorted(groups.values(), key=lambda g: -(len(WORLDS[g[0]](0).modalities) * 3 + len(g)))
    out: list[set[str]] = [set() for _ in range(max(1, min(jobs, len(order))))]
    for group in order:
        min(out, key=len).update(group)
    return out
