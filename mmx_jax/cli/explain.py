"""``mmx explain``: one example, one or several explainers, a picture."""

import dataclasses
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from mmx_jax.cli.console import Terminal
from mmx_jax.cli.explainers import Setting, build, check_targets
from mmx_jax.cli.options import Options, mesh_of, metavar, not_yet, splitted
from mmx_jax.cli.own import first_example
from mmx_jax.cli.subject import Subject, open_subject
from mmx_jax.errors import InputError
from mmx_jax.mapping import map_examples
from mmx_jax.numerics import derive_keys
from mmx_jax.report.figure import explanation_figure
from mmx_jax.report.pictures import describe, unit_names
from mmx_jax.report.svg import number
from mmx_jax.runs import check_output, free_name, result_directory, write_json

__all__ = ["Explain"]


@dataclasses.dataclass(frozen=True)
class Explain(Options):
    """Explain one example with one or several methods and draw it.

    Writes explanation.png (or .svg) and explanation.json, and prints the units that count most.

    Your own model: mmx explain --model file.py:build --data file.npz --example 3

    Attributes:
      example: Which held-out example, from 0; of your own data, which row.
      target: Which output; by default the largest, and of a world the one that it declares (1).
      format: Of the picture.
    """

    example: int = 0
    target: Annotated[int | None, metavar("INT")] = None
    format: Annotated[Literal["png", "svg"], tyro.conf.arg(metavar="png|svg")] = "png"

    def run(self) -> None:
        """Explains, draws and writes."""
        out = free_name("mmx-explain") if self.out is None else self.out
        check_output(out)
        if self.example < 0:
            raise InputError("example", f"is {self.example}", "count from 0")
        mesh = mesh_of(self.devices)
        terminal = Terminal()

        def methods(
            modalities: dict[str, Any], background: Any, known: Any, model: Any = not_yet
        ) -> dict[str, Any]:
            setting = Setting(modalities, background, model, known, self.quick, self.seed)
            names = splitted(self.explainers or "occlusion, shapley")
            return build(names, setting, explicit=self.explainers is not None)

        subject = open_subject(self.source(self.example + 1, 16), terminal, methods, whole=True)
        subject = self.one(subject)
        explainers = methods(
            subject.modalities, subject.calibration, subject.reference, subject.model
        )
        check_targets(explainers, subject.evaluation_targets)
        keys = derive_keys(self.seed, "explain", 1, self.example)
        explained: dict[str, Any] = {}
        for name, explainer in explainers.items():
            with terminal.stage(f"explaining with {name}") as advance:
                scores = map_examples(
                    explainer,
                    subject.model,
                    subject.evaluation,
                    subject.evaluation_targets,
                    keys,
                    in_axes=(None, 0, 0, 0),
                    mesh=mesh,
                    progress=advance,
                )
            explained[name] = {n: s[0] for n, s in scores.items()}
            if not all(np.isfinite(s).all() for s in explained[name].values()):
                raise InputError("explainers", f"{name} gives NaN here", "choose another one")
        self.write(out, subject, explainers, explained, terminal)

    def one(self, subject: Subject) -> Subject:
        """The subject with the wanted example and target alone."""
        count = len(subject.evaluation_targets)
        if self.example >= count:
            raise InputError("example", f"is {self.example}", f"use 0 to {count - 1}")
        rows = slice(self.example, self.example + 1)
        targets = subject.evaluation_targets[rows]
        if self.target is not None:
            outputs = len(subject.target_names)
            if not 0 <= self.target < outputs:
                raise InputError("target", f"is {self.target}", f"use 0 to {outputs - 1}")
            targets = np.full_like(targets, self.target)
        return dataclasses.replace(
            subject,
            evaluation=jax.tree.map(lambda x: x[rows], subject.evaluation),
            evaluation_targets=targets,
            labels=subject.labels[rows],
        )

    def write(
        self,
        out: Any,
        subject: Subject,
        explainers: dict[str, Any],
        explained: dict[str, Any],
        terminal: Terminal,
    ) -> None:
        """Writes picture and numbers, and prints the units that count most."""
        inputs = first_example(subject.evaluation)
        target = int(subject.evaluation_targets[0])
        value = float(np.asarray(subject.model(inputs))[target])
        specs = {n: describe(m) for n, m in subject.modalities.items()}
        title = f"{subject.target_names[target]} ({number(value)})"
        remark = subject.labels[0] if subject.labels else ""
        results = {
            "schema": "explain/1",
            "task": subject.name,
            "model": subject.kind,
            "link": subject.link,
            "reference": {n: m.reference_kind for n, m in subject.modalities.items()},
            "seed": self.seed,
            "example": self.example,
            "remark": remark,
            "target": target,
            "target_name": subject.target_names[target],
            "value": value,
            "units": {n: unit_names(specs[n], inputs[n]) for n in specs},
            "explanations": {
                n: {"scores": s, "evaluations": explainers[n].evaluations}
                for n, s in explained.items()
            },
        }
        figure = explanation_figure(f"{title}\n{remark}", specs, inputs, explained)
        with result_directory(out) as directory:
            write_json(directory / "explanation.json", results)
            write_json(directory / "timings.json", terminal.timings())
            figure.savefig(
                directory / f"explanation.{self.format}",
                dpi=160,
                metadata={"Date": None} if self.format == "svg" else {"Software": None},
            )
        console = Console(highlight=False)
        console.print(f"[bold]{escape(title)}[/] [dim]{escape(remark)}[/]")
        for name, scores in explained.items():
            console.print(f"  {escape(name)}: {escape(_largest(results['units'], scores))}")
        console.print(f"[bold]{escape(str(out))}[/]", soft_wrap=True)


def _largest(units: dict[str, list[str]], scores: dict[str, Any]) -> str:
    """The three units of largest magnitude, with their scores."""
    flat = [
        (float(s), f"{name} {unit}")
        for name in sorted(scores)
        for s, unit in zip(scores[name], units[name], strict=True)
    ]
    flat.sort(key=lambda item: -abs(item[0]))
    return ", ".join(f"{unit} {number(score)}" for score, unit in flat[:3])
