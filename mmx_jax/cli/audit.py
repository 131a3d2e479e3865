"""``mmx audit``: explains held-out examples, judges every explanation, writes a page."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated, Any

import jax

from mmx_jax.cli.bounds import Certificates, certify_column, radius_of
from mmx_jax.cli.console import Terminal, compile_quickly
from mmx_jax.cli.explainers import (
    CONTROLS,
    GRADIENT,
    METHODS,
    RESCALED,
    Setting,
    build,
    check_targets,
)
from mmx_jax.cli.options import Options, mesh_of, metavar, not_yet, splitted
from mmx_jax.cli.pairs import judge_pairs
from mmx_jax.cli.pipeline import Plan, audit
from mmx_jax.cli.subject import Subject, open_subject
from mmx_jax.cli.summary import print_summary
from mmx_jax.errors import InputError
from mmx_jax.modality import Modality
from mmx_jax.report import render
from mmx_jax.runs import check_output, free_name, plain, result_directory, write_json, write_text
from mmx_jax.typing import Explainer, Inputs, Model

__all__ = ["Audit"]

CARRIERS = ("truth", "integrated-gradients", "occlusion", "within-shapley")
"""The defaults that carry the expensive stability columns."""

QUICK = ("integrated-gradients", "occlusion", "shapley")  # beside the rescaled Shapley values
QUICK_CARRIERS = ("truth", "occlusion")
QUICK_CONTROLS = ("constant", "random", "edges-rescaled", "uniform")
"""What --quick looks at by default."""


@dataclasses.dataclass(frozen=True)
class Audit(Options):
    """Explain held-out examples with many methods and judge each by three desiderata.

    Without options a small model is trained on real digits with written notes. The scorecard is
    printed; results.json, report.html (open it in a browser), panels.json (what the page draws)
    and timings.json are written. The same command gives the same results.json.

    Your own model: mmx audit --model file.py:build --data file.npz

    Attributes:
      examples: How many held-out examples are judged. By default 32, with --quick 16, and of your
        own data all that calibration leaves (it takes a third, chosen by the seed).
      stability: On how many examples stability is measured, the expensive part. By default 8 (4
        with --quick); 0 for none. Of the default explainers truth, integrated-gradients,
        occlusion and within-shapley carry it (truth and occlusion with --quick), of those you name
        all do.
      certify: Also prove a bound within this radius (as for mmx certify) of the first judged
        example, for the explainers that carry stability. Minutes for each.
      pairs: Also explain pairs of units across modalities, and judge and draw them.
    """

    examples: Annotated[int | None, metavar("INT")] = None
    stability: Annotated[int | None, metavar("INT")] = None
    certify: Annotated[str | None, metavar("R or NAME=R,...")] = None
    pairs: bool = False

    def run(self) -> None:
        """Audits, prints the scorecard and writes the result directory."""
        out = free_name("mmx-audit") if self.out is None else self.out
        check_output(out)
        stability = self.carried()
        if self.examples == 1:
            raise InputError("examples", "is 1", "judge 2 or more: paths lead from one to the next")
        if self.model is None or self.quick:  # many programs, few examples each
            compile_quickly(most=self.quick)
        mesh = mesh_of(self.devices)
        terminal = Terminal()
        examples = self.examples
        if examples is None and self.model is None:
            examples = 16 if self.quick else 32
        subject = open_subject(
            self.source(examples, 8 if self.quick else 24), terminal, self.methods
        )
        explainers = self.methods(
            subject.modalities, subject.calibration, subject.reference, subject.model
        )
        check_targets(explainers, subject.evaluation_targets)
        plan = Plan(
            self.seed,
            self.chunk,
            mesh,
            stability,
            frozenset(filter(self.carries, explainers)),
            jacobians=not self.quick,
        )
        results, panels, seconds = audit(subject, explainers, plan, terminal)
        if self.certify is not None:
            self.prove(results, subject, explainers, terminal)
        if self.pairs:
            with terminal.stage("explaining pairs") as advance:
                drawn = [example["index"] for example in panels["examples"]]
                found = judge_pairs(
                    subject, results["range"], self.seed, self.quick, drawn, advance
                )
                results["pairs"], panels["pairs"] = plain(found[0]), plain(found[1])
        panels["command"] = self.command()
        with result_directory(out) as directory:
            write_json(directory / "results.json", results)
            write_json(directory / "panels.json", panels)
            with terminal.stage("drawing the report"):
                page = render(results, panels)
            write_text(directory / "report.html", page)
            write_json(directory / "timings.json", terminal.timings() | {"explainers": seconds})
        print_summary(results, panels, Path(out))

    def prove(
        self,
        results: dict[str, Any],
        subject: Subject,
        explainers: dict[str, Explainer],
        terminal: Terminal,
    ) -> None:
        """Fills the certified column."""
        example = jax.tree.map(lambda x: x[0], subject.evaluation)
        radius = radius_of(self.certify or "0", example)
        wanted = Certificates(radius, 2, "auto", 1, self.seed, True)
        with terminal.stage("certifying") as advance:
            certify_column(results, subject, explainers, wanted, advance)

    def carries(self, name: str) -> bool:
        """Whether an explainer carries stability: those asked for, and some of the defaults."""
        few = QUICK_CARRIERS if self.quick else CARRIERS
        return self.explainers is not None or name.partition(" + ")[0] in few

    def carried(self) -> int:
        """On how many examples stability is measured."""
        if self.stability is None:
            return 4 if self.quick else 8
        if self.stability < 0:
            raise InputError("stability", f"is {self.stability}", "use 0 or more examples")
        return self.stability

    def methods(
        self,
        modalities: dict[str, Modality],
        background: Inputs,
        known: Explainer | None,
        model: Model = not_yet,
    ) -> dict[str, Explainer]:
        """The explainers asked for, or the defaults; the model may not be there yet."""
        if self.certify is not None:  # a mistake is told before a model is trained
            radius_of(self.certify, jax.tree.map(lambda x: x[0], background))
        setting = Setting(modalities, background, model, known, self.quick, self.seed)
        if self.explainers is not None and self.explainers != "all":
            return build(splitted(self.explainers), setting, explicit=True)
        few = self.quick and self.explainers is None
        apart = len(setting.integers()) == len(modalities) or setting.no_gradient
        methods = [m for m in (QUICK if few else METHODS) if not (apart and m in GRADIENT)]
        controls = [f"control-{c}" for c in QUICK_CONTROLS] if few else list(CONTROLS)
        truth = [] if known is None else ["truth"]
        names = [*truth, *methods, RESCALED + "within-shapley", *controls]
        return build(names, setting, explicit=False)

    def command(self) -> str:
        """The command that repeats this audit."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        said = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {shlex.quote(str(value))}")
            for name, value in vars(self).items()
            if value != defaults[name] and name != "out"
        ]
        return " ".join(["mmx audit", *said])
