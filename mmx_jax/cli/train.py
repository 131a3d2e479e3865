"""``mmx train``: trains a network that explains, on the desiderata, from any moment on."""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from mmx_jax.cli.console import Terminal
from mmx_jax.cli.options import mesh_of, metavar, one_of_two
from mmx_jax.cli.subject import Source, Subject, open_subject
from mmx_jax.errors import InputError, UnknownNameError
from mmx_jax.models import Resample
from mmx_jax.report.curves import training_figure
from mmx_jax.runs import check_output, free_name
from mmx_jax.tasks import TASKS

if TYPE_CHECKING:
    from mmx_jax.learn import Recipe, Trained

__all__ = ["Train"]

STEPS, QUICK = 1500, 600
TARGETS = ("fixed", "predicted", "random")


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one network that explains every modality of a model in one forward pass.

    Its losses are the three desiderata. The directory holds config.json, metrics.jsonl and
    checkpoints, at the end curves.svg. A run that was stopped goes on with --resume and ends with
    the same weights. Then:
    mmx audit --explainers learned:DIR,shapley

    Your own model: mmx train --model file.py:build --data file.npz --out DIR

    Attributes:
      task: What is explained when there is no --model; see mmx audit --help.
      model: Your own model: a Python file and a function in it that returns a pair of model and
        modalities.
      data: Your own data; a third of it is held out. Audit the result on other data.
      out: A directory that is absent or empty, or with --resume that of a run; by default a new one
        beside you.
      resume: Go on where the run in --out stopped; everything else but --patience must be as it
        was.
      certifiable: A network whose slope is proven to be at most L everywhere, of the output's range
        per unit of the data; 3 is a good first choice. By default none is proven.
      steps: Of training, rounded up to whole hundreds; by default 1500, with --quick 600.
      batch: Examples per step.
      dim: Width of the network.
      learning_rate: Its peak.
      alpha: An explanation must change by at least this share of the effect of what is removed.
      beta: A slack on both sides, of the output's range.
      over: It may change by at most so many times what removing any part of it does.
      eps: Keeping the highest units alone may move the output by at most this, of its range.
      necessity: Removing them must do at least this share of the largest effect.
      slope: Slopes of the explanation up to this cost nothing, of the output's range per unit of
        the data; by default 1, or more where alpha needs it.
      path_slope: The same along paths between examples, where an explanation must change by what
        alpha demands; by default that of --slope.
      constrained: Make these constants constraints, each to be met within a tolerance (.005 is a
        good first one); what is active or infeasible is said. By default each is a term of fixed
        weight.
      bfloat16: Compute the network in half precision; for accelerators.
      patience: Stop after so many evaluations without a better one; 0 for never.
      target: Which outputs are explained. Use fixed (that of the task or of your data), predicted
        (the largest of each example) or random (all); by default fixed where there is one, else
        predicted.
      seed: Of data, weights and everything else that is drawn.
      link: On which scale outputs are explained, identity, softmax or log-odds. By default the
        model's own, softmax for models trained here.
      reference: What stands for a unit that is removed. Use own (as the modalities say), zero, mean
        or marginal (draws from other examples, averaged).
      devices: Spread batches over so many devices; on a CPU, so many parts of it.
      quick: A first look, under three minutes on two cores.
    """

    task: str = "mixed"
    model: Annotated[str | None, metavar("FILE.py:BUILD")] = None
    data: Annotated[Path | None, metavar("FILE.npz")] = None
    out: Annotated[Path | None, metavar("DIR")] = None
    resume: bool = False
    certifiable: Annotated[float | None, metavar("L")] = None
    steps: Annotated[int | None, metavar("INT")] = None
    batch: int = 128
    dim: int = 48
    learning_rate: float = 3e-3
    alpha: float = 0.97
    beta: float = 0.005
    over: float = 1.03
    eps: float = 0.01
    necessity: float = 0.97
    slope: Annotated[float | None, metavar("FLOAT")] = None
    path_slope: Annotated[float | None, metavar("FLOAT")] = None
    constrained: Annotated[float | None, metavar("TOLERANCE")] = None
    bfloat16: bool = False
    patience: int = 0
    target: Annotated[str | None, metavar("NAME")] = None
    seed: int = 0
    link: Annotated[str | None, metavar("NAME")] = None
    reference: Annotated[str, tyro.conf.arg(metavar="NAME")] = "own"
    devices: Annotated[int | None, metavar("INT")] = None
    quick: bool = False

    def run(self) -> None:
        """Trains, showing progress, and prints what the best explainer reaches."""
        from mmx_jax.learn import fit, read_config  # other commands start without it

        if self.resume and self.out is None:
            raise InputError("resume", "is given without --out", "name the directory of the run")
        one_of_two(self)
        if self.steps is not None and self.steps < 1:
            raise InputError("steps", f"is {self.steps}", "use 1 or more")
        if self.target not in (None, *TARGETS):
            raise UnknownNameError("target", self.target, list(TARGETS))
        if self.certifiable is not None and not 0 < self.certifiable < float("inf"):
            raise InputError("certifiable", f"is {self.certifiable}", "use a slope above 0")
        out = free_name("mmx-train") if self.out is None else self.out
        if self.resume:
            read_config(out)
        else:
            check_output(out)
        mesh = mesh_of(self.devices)
        terminal = Terminal()
        source = Source(
            self.task,
            self.model,
            self.data,
            self.link,
            self.reference,
            self.seed,
            None if self.model else 2,
            256,
            self.quick,
        )
        subject = open_subject(source, terminal)
        sample, usual = self.sampler(subject)
        target = self.target or usual
        with terminal.stage("training the explainer") as advance:

            def progress(done: int, total: int, seconds: float, found: dict[str, float]) -> None:
                advance(done, total, seconds)
                left = seconds / done * (total - done)
                advance.say(f"quality {found['quality']:.3f}, {left:.0f} s left")

            try:
                trained = fit(
                    subject.model,
                    subject.modalities,
                    sample,
                    subject.calibration,
                    subject.calibration_targets,
                    self.recipe(target),
                    directory=out,
                    resume=self.resume,
                    about={
                        "task": subject.name,
                        "kind": subject.kind,
                        "data": None if self.data is None else self.data.name,
                        "link": subject.link,
                        "reference": self.reference,
                        "quick": self.quick,
                    },
                    mesh=mesh,
                    progress=progress,
                )
            except KeyboardInterrupt:
                print(f"mmx: stopped; go on with --resume --out {out}", file=sys.stderr)
                raise SystemExit(130) from None
        self.report(out, trained)

    def recipe(self, target: Any) -> "Recipe":
        """All settings of the run."""
        from mmx_jax.learn import (
            Demands,
            NetworkSettings,
            Recipe,
            Settings,
            constrained,
            weighed,
        )

        certified = self.certifiable is not None
        return Recipe(
            network=NetworkSettings(
                kind="certifiable" if certified else "free",
                dim=self.dim,
                lipschitz=self.certifiable or 3.0,
            ),
            demands=Demands(
                alpha=self.alpha,
                over=self.over,
                slack=self.beta,
                sufficiency=self.eps,
                necessity=self.necessity,
            ),
            slope=self.slope,
            path_slope=self.path_slope,
            balance=weighed() if self.constrained is None else constrained(self.constrained),
            settings=Settings(
                steps=(QUICK if self.quick else STEPS) if self.steps is None else self.steps,
                batch=self.batch,
                learning_rate=self.learning_rate,
                target=target,
                patience=self.patience,
                compute="bfloat16" if self.bfloat16 else "float32",
                seed=self.seed,
            ),
        )

    def sampler(self, subject: Subject) -> tuple[Any, str]:
        """Where training examples come from, and which output is explained."""
        if self.model is None:
            task = TASKS[self.task](self.seed)
            return task.sample_training, "predicted" if task.target is None else "fixed"
        targets = subject.evaluation_targets
        inputs = jax.tree.map(jnp.asarray, subject.evaluation)
        fixed = len(np.unique(targets)) == 1
        return Resample(inputs, jnp.asarray(targets)), "fixed" if fixed else "predicted"

    def report(self, out: Path, trained: "Trained") -> None:
        """Prints the figures of the best evaluation, and draws all of them."""
        console = Console(highlight=False)
        training_figure(trained.history).savefig(out / "curves.svg")
        if trained.history:
            best = max(trained.history, key=lambda row: row["measured"]["quality"])
            figures = ", ".join(f"{n} {v:.3f}" for n, v in best["measured"].items())
            console.print(f"best at step {best['step']}: {figures}")
            limits = [f"{name} {state}" for name, state in trained.history[-1]["limits"].items()]
            if limits:
                console.print(f"constraints: {', '.join(limits)}")
        network = trained.best.network()
        for name, _ in getattr(network, "unread", ()):
            console.print(f"{escape(name)} never moved the output: it scores 0, by construction")
        if self.certifiable is not None:
            bounds = network.certificate()  # pyright: ignore[reportAttributeAccessIssue]
            console.print(f"certified slope: {float(bounds['all']):.4g}, everywhere")
        console.print(f"[bold]{escape(str(out))}[/]", soft_wrap=True)
