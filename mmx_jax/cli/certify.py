"""``mmx certify``: how steep explanations are around examples, searched and proven."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmx_jax.certify import METHODS
from mmx_jax.cli.bounds import (
    FACTORS,
    Certificates,
    certificates,
    certified_network,
    radius_of,
)
from mmx_jax.cli.console import Terminal, compile_quickly
from mmx_jax.cli.explainers import Setting, build, check_targets
from mmx_jax.cli.options import Options, mesh_of, not_yet, splitted
from mmx_jax.cli.subject import open_subject
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.report.certificate import cell_text, render_certificates
from mmx_jax.runs import check_output, free_name, plain, result_directory, write_json, write_text
from mmx_jax.typing import Explainer

__all__ = ["Certify"]


@dataclasses.dataclass(frozen=True)
class Certify(Options):
    """Bound how steep explanations are: at the point, the steepest found, and a proven bound.

    For every pair of modalities: how much the explanation of one can change per change of the
    other, anywhere within a radius of an example. Prints the matrix and writes results.json,
    report.html and timings.json. Where an explanation jumps, as gradients of a ReLU network do, no
    bound is finite.

    Your own model: mmx certify --model file.py:build --data file.npz --radius table=.05,note=0

    Attributes:
      radius: One number, or a number per modality as image=.05,note=0; those not named and those
        of integers stay where they are.
      norm: Of balls and changes, 2 (euclidean) or inf (each number by itself).
      method: Of the bounds. Use interval, affine, full, quadratic or shaped, from cheap to tight;
        auto takes quadratic or full, by size.
      examples: How many held-out examples.
    """

    task: str = "xor"
    radius: Annotated[str, tyro.conf.arg(metavar="R or NAME=R,...")] = ".02"
    norm: Annotated[Literal["2", "inf"], tyro.conf.arg(metavar="2|inf")] = "2"
    method: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    examples: int = 1

    def run(self) -> None:
        """Certifies, prints the matrix and writes the result directory."""
        out = free_name("mmx-certify") if self.out is None else self.out
        check_output(out)
        if self.method not in METHODS:
            raise UnknownNameError("method", self.method, METHODS)
        if self.examples < 1:
            raise InputError("examples", f"is {self.examples}", "use a positive number")
        compile_quickly(most=self.quick)  # each program is run a few times only
        mesh_of(self.devices)
        terminal = Terminal()

        def methods(
            modalities: dict[str, Any], background: Any, known: Any, model: Any = not_yet
        ) -> dict[str, Explainer]:
            example = jax.tree.map(lambda x: x[0], background)
            radius_of(self.radius, example)  # a mistake is told before a model is trained
            setting = Setting(modalities, background, model, known, self.quick, self.seed)
            few = "saliency" if self.quick else "saliency, input-x-gradient, occlusion"
            wanted = splitted(self.explainers or few)
            if self.explainers == "all":
                raise InputError("explainers", "is all", "name those to be certified")
            return build(wanted, setting, explicit=self.explainers is not None)

        count = 1 if self.quick else self.examples
        subject = open_subject(self.source(count, 8), terminal, methods, whole=True)
        explainers = methods(
            subject.modalities, subject.calibration, subject.reference, subject.model
        )
        check_targets(explainers, subject.evaluation_targets)
        wanted = Certificates(
            radius=radius_of(self.radius, jax.tree.map(lambda x: x[0], subject.evaluation)),
            norm=2 if self.norm == "2" else np.inf,
            method=self.method,
            examples=min(count, len(subject.evaluation_targets)),
            seed=self.seed,
            quick=self.quick,
        )
        found = {}
        for name, explainer in explainers.items():
            with terminal.stage(f"certifying {name}") as advance:
                found[name] = certificates(subject, explainer, wanted, advance)
                found[name]["everywhere"] = everywhere(explainer)
        results = plain(
            {
                "schema": "certify/1",
                "task": subject.name,
                "model": subject.kind,
                "link": subject.link,
                "seed": self.seed,
                "radius": wanted.radius,
                "norm": self.norm,
                "examples": wanted.examples,
                "factors": list(FACTORS),
                "explainers": found,
            }
        )
        with result_directory(out) as directory:
            write_json(directory / "results.json", results)
            page = render_certificates(results, self.command())
            write_text(directory / "report.html", page)
            write_json(directory / "timings.json", terminal.timings())
        print_certificates(results, Path(out))

    def command(self) -> str:
        """The command that repeats this."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        said = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
            for name, value in vars(self).items()
            if value != defaults[name] and name != "out"
        ]
        return " ".join(["mmx certify", *said])


def everywhere(explainer: Explainer) -> dict[str, float] | None:
    """The l2 bounds over all inputs of a learned explainer that is certifiable by construction."""
    network = certified_network(explainer)
    return None if network is None else {n: float(x) for n, x in network.certificate().items()}


def print_certificates(results: dict[str, Any], out: Path) -> None:
    """Prints a matrix per explainer, and where the page lies."""
    console = Console(highlight=False)
    for name, entry in results["explainers"].items():
        method = f" [dim]({entry['method']})[/]" if entry["method"] else ""
        console.print(f"[bold]{escape(name)}[/]{method}")
        if entry["everywhere"]:
            bounds = ", ".join(f"{n} {x:.4g}" for n, x in entry["everywhere"].items())
            console.print(f"  by construction, everywhere and in l2: {escape(bounds)}")
        if entry["reason"]:
            console.print(f"  [red]not certified[/]: {escape(entry['reason'])}")
            continue
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2))
        for column in ("", "at the point", "searched", "certified", "ratio"):
            table.add_column(column, justify="right" if column else "left", no_wrap=True)
        for pair, cell in entry["pairs"].items():
            table.add_row(f"  {escape(pair)}", *cell_text(cell))
        console.print(table)
    console.print(f"[bold]{escape(str(out / 'report.html'))}[/]", soft_wrap=True)
