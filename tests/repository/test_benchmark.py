"""The leaderboard: killed at any moment it goes on and ends with the same bytes; what it says."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro

from experiments import benchmark, plan
from experiments.blindness import blindness
from experiments.cell import Effort, bench
from experiments.leaderboard import render
from experiments.ranking import METRICS, agreement, beaten, board, not_beaten
from experiments.resumable import WorkDirectory
from mmx_jax.errors import InputError
from mmx_jax.tasks import WORLDS, draw

ROOT = Path(__file__).parents[2]
CONTROLS = ("control-uniform", "control-random")
NAMES = ("truth", "occlusion", "saliency", "rise", "lime", *CONTROLS)

DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_benchmark import run_cheaply
run_cheaply(Path(sys.argv[1]), float(sys.argv[2]))
"""


def cheap_row(model, world, seed, name):
    """Numbers of a cell that depend on its names only."""
    digest = hashlib.sha256(f"{model} {world} {seed} {name}".encode()).digest()
    numbers = np.frombuffer(digest, np.uint8) / 255
    row = {column: float(x) for column, x in zip(METRICS, numbers, strict=False)}
    verdicts = dict.fromkeys(("granger", "faithfulness", "stability"), "pass")
    return row | verdicts | {"own set": 0.5, "calls": 3, "why": "", "distance to truth": 0.4}


def run_cheaply(out, pause):
    """The leaderboard itself, with cells that are made up and take ``pause`` seconds."""

    def prepare(model, task, seed, options):
        judged = types.SimpleNamespace(
            explainers=lambda names: {n: (model, task.name, seed, n) for n in names}
        )
        return judged, {}

    def judge(bench, name, explainer):
        time.sleep(pause)
        return explainer

    def drawn(judged, world, names):
        return {
            "world": world,
            "about": "<b>",
            "mode": "m",
            "modalities": {"a": {"kind": "column", "units": 2, "layout": [2], "labels": []}},
            "inputs": {"a": [1.0, 2.0]},
            "relevant": {"a": [0]},
            "scores": {name: {"a": [1.0, -0.5]} for name in names},
        }

    changed = ("prepare", "judge", "row_of", "drawn", "WORLDS")
    before = {n: getattr(benchmark, n) for n in changed}
    try:
        benchmark.WORLDS = {n: WORLDS[n] for n in ("unique", "xor")}
        benchmark.prepare, benchmark.judge, benchmark.drawn = prepare, judge, drawn
        benchmark.row_of = lambda card: cheap_row(*card)
        options = plan.Options(
            out=out, worlds="unique,xor", explainers=",".join(NAMES), seeds_count=2, jobs=1
        )
        return benchmark.run(options)
    finally:
        for name, value in before.items():
            setattr(benchmark, name, value)


def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_bytes(tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER.format(tests=str(Path(__file__).parent)))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, str(driver), str(broken), "0.2"], cwd=ROOT, env=environment
    )
    deadline = time.monotonic() + 120
    while len(list(broken.glob("cells/*/*/*/*.json"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {f.relative_to(broken): f.stat().st_mtime_ns for f in broken.glob("cells/*/*/*/*.json")}
    total = 2 * 2 * (2 * len(NAMES) - 1)  # worlds, seeds, and the truth of the exact model only
    assert 3 <= len(done) < total
    assert not (broken / "COMPLETE").exists()
    again, once = run_cheaply(broken, 0), run_cheaply(whole, 0)
    assert len(once["details"]) == total
    assert again == once
    assert (broken / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert (broken / "leaderboard.html").read_bytes() == (whole / "leaderboard.html").read_bytes()
    assert (broken / "COMPLETE").exists()
    # what was whole was not made again
    assert all((broken / name).stat().st_mtime_ns == at for name, at in done.items())
    page = (whole / "leaderboard.html").read_text()
    assert "&lt;b&gt; (m)" in page
    assert 'class="control"' in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<tr") > len(NAMES) + len(METRICS)


def test_a_work_directory_belongs_to_one_configuration(tmp_path):
    place = WorkDirectory(tmp_path / "run", {"a": 1})
    place.write("x/y.json", {"value": 0.5})
    assert WorkDirectory(tmp_path / "run", {"a": 1}).read("x/y.json") == {"value": 0.5}
    with pytest.raises(InputError, match="another a:"):
        WorkDirectory(tmp_path / "run", {"a": 2})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        WorkDirectory(tmp_path / "other", {})

    def breaks(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.write_with("z.json", breaks)
    assert not place.has("z.json")


def test_worlds_that_share_programs_stay_together():
    groups = (("xor", "mixed"), ("sarcasm", "mixed3"), ("parity4",))
    worlds = tuple(world for group in groups for world in group)
    shares = plan.parts(plan.Plan(worlds, ("truth",), ("exact",), (0,)), 2)
    assert len(shares) == 2
    assert sorted(world for share in shares for world in share) == sorted(worlds)
    for group in groups:
        assert any(set(group) <= share for share in shares)


def test_fewer_seeds_may_train_models():
    chosen = plan.planned(plan.Options(worlds="xor", explainers="truth,rise", trained_seeds=2))
    assert [(m, s, names) for m, _, s, names in chosen.cells(quick=False)] == [
        *(("exact", seed, ["truth", "rise"]) for seed in range(1000, 1005)),
        *(("trained", seed, ["rise"]) for seed in (1000, 1001)),
    ]


def test_files_add_explainers_and_worlds(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "DEFAULT", list(plan.DEFAULT))
    monkeypatch.setattr(plan.table, "METHODS", dict(plan.table.METHODS))
    monkeypatch.setattr(plan, "WORLDS", dict(WORLDS))
    file = tmp_path / "mine.py"
    file.write_text(
        "EXPLAINERS = {'mine': lambda m, s: None}\nWORLDS = {'tiny': lambda seed: None}\n"
    )
    assert plan.load((file,)) == {"mine"}
    chosen = plan.planned(plan.Options(worlds="tiny", explainers="mine,truth", quick=True))
    assert chosen == plan.Plan(("tiny",), ("mine", "truth"), ("exact", "trained"), (1000,))
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text("EXPLAINERS = {")
    for given, message in (
        (tmp_path / "empty.py", "adds nothing"),
        (tmp_path / "no.py", "does not exist"),
        (tmp_path / "broken.py", r"fails \(SyntaxError"),
    ):
        with pytest.raises(InputError, match=message):
            plan.load((given,))
    with pytest.raises(InputError, match="did you mean 'xor'"):
        plan.planned(plan.Options(worlds="xorr"))
    with pytest.raises(InputError, match="trained_seeds is 0: use 1 or more"):
        plan.planned(plan.Options(trained_seeds=0))


MINE = """
import jax.numpy as jnp

class Mine:
    evaluations = 1

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, model, inputs, target, key=None):
        return self.scores(inputs)

EXPLAINERS = {"mine": MADE}
"""
NAN = "{n: jnp.full(v.units, jnp.nan) for n, v in m.items()}"
WRONG = {
    "lambda m: None": "takes 1 positional argument but 2 were given",
    "lambda m, s: Mine(lambda x: {'image': x['image'][0, :3]})": "scores of shapes",
    f"lambda m, s: Mine(lambda x: {NAN})": "NaN",
    "lambda m, s: Mine(lambda x: x['sound'])": "KeyError",
}


@pytest.mark.parametrize("made", WRONG)
def test_a_wrong_explainer_is_named_with_what_is_wrong(made, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "DEFAULT", list(plan.DEFAULT))
    monkeypatch.setattr(plan.table, "METHODS", dict(plan.table.METHODS))
    (tmp_path / "mine.py").write_text(MINE.replace("MADE", made))
    plan.load((tmp_path / "mine.py",))
    judged = bench(WORLDS["xor"](0), 0, Effort(2, 2))
    with pytest.raises(InputError, match=r"explainer 'mine'.*xor") as raised:
        benchmark.checked(judged, "xor", "mine")
    assert WRONG[made] in str(raised.value)


def test_the_file_of_the_readme_adds_an_explainer_and_a_world(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "DEFAULT", list(plan.DEFAULT))
    monkeypatch.setattr(plan.table, "METHODS", dict(plan.table.METHODS))
    monkeypatch.setattr(plan, "WORLDS", dict(WORLDS))
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    (shown,) = [block for block in blocks if "EXPLAINERS" in block]
    (tmp_path / "mine.py").write_text(shown)
    plan.load((tmp_path / "mine.py",))
    (command,) = re.findall(r"python -m experiments.benchmark (--add.*?) +#", text, re.S)
    given = command.replace("\\\n", " ").replace("mine.py", str(tmp_path / "mine.py")).split()
    options = tyro.cli(plan.Options, args=given)
    chosen = plan.planned(options)
    assert (chosen.worlds, chosen.models) == (("duet", "xor"), ("exact",))
    task = plan.WORLDS["duet"](0)
    explain = plan.table.METHODS["only-one"](task.modalities, None)
    one = jax.tree.map(lambda x: x[0], draw(task.sample, jax.random.key(0), 4))
    scores = jax.jit(explain)(task.model, one.inputs, 1, None)
    assert {n: s.shape for n, s in scores.items()} == {"sound": (8,), "text": (8,)}
    assert explain.evaluations == 18
    # units that no term reads are null players
    idle = ~np.asarray(one.truth["relevant"]["text"])
    assert np.all(np.asarray(scores["text"])[idle] == 0)
    assert np.any(scores["text"])


def rows_of(**columns):
    """A row per explainer on two worlds, from its columns; everything else is as the truth's."""
    rows = []
    for world in ("one", "two"):
        for name, changes in columns.items():
            row = dict.fromkeys(METRICS, 1.0) | {m: 0.0 for m, x in METRICS.items() if x.sign < 0}
            row |= {"own set": 0.1, "calls": 1, "distance to truth": 1.0}
            row |= dict.fromkeys(("granger", "faithfulness", "stability"), "pass")
            said = {
                "model": "exact",
                "world": world,
                "seed": 1,
                "explainer": name.replace("_", "-"),
            }
            rows.append(row | said | changes)
    return rows


def test_a_beaten_truth_and_a_fooled_metric_are_said():
    rows = rows_of(
        truth={"tpr": 0.9},
        occlusion={"tpr": 0.95, "fdr": 0.4},
        control_uniform={"tpr": 0.3, "fdr": 0.8, "joint necessity": 0.99, "own set": 0.9},
    )
    failed = [c for c in not_beaten(rows) if not c["passed"]]
    assert [c["claim"] for c in failed] == [
        f"{world}: lead of the truth in tpr, at least" for world in ("one", "two")
    ]
    assert failed[0]["value"] == pytest.approx(-0.05)
    lost = beaten(rows)
    assert [(r["world"], r["metric"], r["by"]) for r in lost] == [
        ("one", "tpr", "occlusion"),
        ("two", "tpr", "occlusion"),
    ]
    assert lost[0]["lead"] == pytest.approx(-0.05)
    assert "less than the tenth" in lost[0]["reason"]
    fooled = {r["metric"]: r for r in blindness(rows, ["control-uniform"])}
    assert "tpr" not in fooled
    assert "fdr" not in fooled
    assert fooled["joint necessity"]["worlds"] == "one, two"
    assert "own set holds most units" in fooled["joint necessity"]["reason"]
    assert "only mass" not in fooled["slope on paths"]["reason"]
    assert fooled["slope on paths"]["reason"].startswith("measures steadiness")
    near = rows_of(truth={}, control_uniform={"distance to truth": 0.01})
    reasons = {r["reason"] for r in blindness(near, ["control-uniform"])}
    assert reasons == {"in this world the control is the truth"}


def test_metrics_that_order_explainers_alike_agree_and_undefined_ones_say_nothing():
    names = ("a", "b", "c", "d", "e", "f")
    rows = rows_of(
        **{n: {"tpr": i / 6, "fdr": 1 - i / 6, "deletion": i / 6} for i, n in enumerate(names)}
    )
    table = agreement(rows, "exact")
    assert table["tpr"]["fdr"] == pytest.approx(1)  # both turned so that high is good
    assert table["tpr"]["deletion"] == pytest.approx(-1)
    assert table["tpr"]["insertion"] is None
    ranked = board(rows, ["f"])
    assert [r["explainer"] for r in ranked] == list("fedcba")
    assert [r["control"] for r in ranked] == [True] + [False] * 5
    assert ranked[0]["all three"] == 1


def test_the_page_is_escaped_and_holds_every_explainer():
    rows = rows_of(truth={}, **{"<script>": {"tpr": None}})
    agreed = agreement(rows, "exact")
    results = {
        "claims": not_beaten(rows),
        "details": rows,
        "tables": {
            "leaderboard": board(rows, []),
            "agreement of metrics, exact models": [{"metric": n} | agreed[n] for n in METRICS],
            "where the truth is beaten": beaten(rows),
            "known blindness": blindness(rows, ["<script>"]),
        },
    }
    page = render(results, [], "python -m x")
    assert "&lt;script&gt;" in page
    assert page.count("<script>") == 1
    assert "—" in page
