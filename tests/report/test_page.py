"""The page: self-contained, escaped, and readable in a browser at two widths."""

import copy
import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import jsonschema
import matplotlib.image
import numpy as np
import pytest

from mmx_jax import Modality
from mmx_jax.cli.panels import Judged, _explanation
from mmx_jax.desiderata import ModelEffects
from mmx_jax.report import render, schema
from mmx_jax.report.figure import explanation_figure
from mmx_jax.report.findings import findings, order
from mmx_jax.report.pictures import describe, graph_layout, picture, unit_names
from mmx_jax.report.sentences import agreement, listed, sentence
from mmx_jax.report.svg import number
from mmx_jax.runs import plain

EVIL = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """Collects tags and checks that they are nested well."""

    void = ("meta", "br", "img", "input", "link")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_the_made_up_results_are_valid(results):
    jsonschema.Draft202012Validator(schema()).validate(results)
    broken = copy.deepcopy(results)
    broken["explainers"]["shapley"]["verdict"]["granger"] = "maybe"
    broken["explainers"]["shapley"]["seconds"] = 3.0
    del broken["explainers"]["saliency"]["granger"]["image<-note"]["alpha"]
    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(broken))
    assert len(errors) == 3


def test_the_page_needs_nothing_else(results, panels):
    page = render(results, panels)
    tags = parsed(page)
    assert "script" not in tags.seen
    assert "link" not in tags.seen
    for name, value in tags.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/png;base64,")
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_every_outside_string_is_escaped(results, panels):
    """A mark in each place that a user's file can reach; none may come out as a tag."""
    results["task"], results["model"] = f"task{EVIL}", f"model{EVIL}"
    results["explainers"][f"name{EVIL}"] = results["explainers"].pop("saliency")
    results["explainers"][f"name{EVIL}"]["why"]["granger"] = [f"why{EVIL}"]
    for table in ("changes", "curves"):
        panels[table][f"name{EVIL}"] = panels[table].pop("saliency")
    panels["command"] = f"command{EVIL}"
    example = panels["examples"][0]
    example["target_name"], example["label"] = f"target{EVIL}", f"label{EVIL}"
    example["explanations"][f"name{EVIL}"] = example["explanations"].pop("saliency")
    page = render(results, panels)
    assert "<script" not in page
    for place in ("task", "model", "name", "why", "command", "target", "label"):
        assert f"{place}&lt;script&gt;" in page
    assert parsed(page).seen.count("script") == 0


def test_evil_names_of_modalities_and_columns_are_escaped(results, panels):
    spec = {"kind": "column", "units": 2, "layout": [2], "labels": [EVIL, '" onload="x'],
            "reference": "zero"}  # fmt: skip
    drawn = picture(spec, [1.0, 2.0], [0.5, -1.0], [1], 1.0)
    assert "<script" not in drawn
    assert 'onload="' not in drawn


def test_findings_are_computed(results, panels):
    said = " ".join(f.text for f in findings(results, panels))
    assert "the image on 90 % (mean effect .41) and the note on 30 %" in said
    assert "shapley fails no desideratum" in said
    assert "Where the image changes nothing, saliency (.40) still claims it does" in said
    assert "control-constant fails at least one" in said
    assert "on 4 examples for shapley" in said
    assert "On 25 % of the examples a modality is redundant" in said
    steep = "that of shapley: where the note moves a little, its explanation of the image moves up"
    assert f"{steep} to .90 times as far" in said
    # 1 - .025^(1/n) for n examples without a violation (Clopper and Pearson)
    count = results["examples"]["evaluation"]
    assert f"up to {100 * (1 - 0.025 ** (1 / count)):.0f} % of all may" in said
    assert "72 examples or more can tell" in said
    results["examples"]["evaluation"] = 72
    assert "can tell" not in " ".join(f.text for f in findings(results, panels))
    results["explainers"]["shapley"]["verdict"]["granger"] = "fail"
    results["explainers"]["control-constant"]["verdict"] = dict.fromkeys(
        ("granger", "faithfulness", "stability"), "pass"
    )
    results["explainers"]["saliency"]["granger"]["image<-image"]["overclaim"] = 0.05
    panels["redundant"] = 0.0
    said = " ".join(f.text for f in findings(results, panels))
    assert "None of 2 explainers is free of a fail; shapley" in said
    assert "0 of 1 negative controls" in said
    assert "Where the image changes nothing, no explanation of it moves by more than .10" in said
    assert "stand in" not in said
    assert order(results, panels["controls"]) == ["shapley", "saliency"]
    del results["explainers"]["saliency"]
    assert "shapley fails Granger." in [f.text for f in findings(results, panels)]


def test_a_page_of_controls_alone_has_no_examples(results, panels):
    results["explainers"] = {"control-constant": results["explainers"]["control-constant"]}
    assert "control-constant" in render(results, panels)


def test_a_sentence_names_only_units_that_pass(panels):
    example, specs = panels["examples"][0], panels["modalities"]
    explanation = example["explanations"]["shapley"]
    said = sentence(example, explanation, specs)
    assert said == (
        "The model says seven (.97) because the image shows it at patch (2, 2) "
        "and because the note says 'seven'."
    )
    example["predicted"], explanation["scores"]["image"][5] = False, -0.6
    assert sentence(example, explanation, specs) == (
        "The model does not say seven (.97) because the image speaks against it at patch (2, 2)"
        ", although the note says 'seven'."
    )
    unsigned = explanation | {"signed": False}
    assert "matters at patch (2, 2) and because the note" in sentence(example, unsigned, specs)
    assert "no sign" in agreement(example, unsigned)
    explanation["named"]["image"] = []
    example["state"]["note"], example["effects"]["note"] = "inactive", 0.01
    said = sentence(example, explanation, specs)
    assert "patch" not in said
    assert "'seven'" not in said
    assert "the image matters (df .43), but no units marked there both suffice" in said
    assert "the note changes nothing (df .01)" in said
    example["state"]["note"] = "in parts"
    assert "removing all of the note changes next to nothing (df .01)" in sentence(
        example, explanation, specs
    )
    example["redundant"] = ["image", "note"]
    assert "stand in for each other" in sentence(example, explanation, specs)


def test_agreement_compares_signs_of_active_modalities(panels):
    example = panels["examples"][0]
    explanation = example["explanations"]["shapley"]
    explanation["scores"] = {"image": [0.3, -0.1], "note": [0.2]}
    assert "agree" in agreement(example, explanation)
    explanation["scores"]["note"] = [-0.2]
    said = agreement(example, explanation)
    assert said == "The modalities disagree: the image for it, the note against it."
    example["state"]["note"] = "inactive"
    assert agreement(example, explanation).startswith("Only the image is active")


def test_scores_that_are_not_finite_are_said_to_be_so(results, panels):
    scores = {"image": np.full((1, 16), np.nan), "note": np.ones((1, 4))}
    judged = object.__new__(Judged)
    object.__setattr__(judged, "scores", scores)
    broken = _explanation(0, judged, object.__new__(ModelEffects), 1.0)
    assert json.dumps(plain(broken))  # NaN could not be written
    panels["examples"][0]["explanations"] |= dict.fromkeys(("shapley", "saliency"), broken)
    page = render(results, panels)
    assert "not finite here." in page
    assert "saliency (not finite here)" in page


KINDS = {
    "patch": (Modality.patches((4, 4, 3), 2), np.ones((4, 4, 3))),
    "token": (Modality.tokens(3, 2), np.ones((3, 2))),
    "id": (Modality.token_ids(2, ("a", "b")), np.array([1, 5])),
    "frame": (Modality.frames(30, 2), np.ones((30, 2))),
    "column": (Modality.columns(2, ("x", "$y")), np.ones(2)),
    "node": (Modality.nodes(4, 2), {"features": np.ones((4, 2)), "adjacency": np.eye(4)[::-1]}),
    "edge": (
        Modality.edges(3, nodes=3),
        {"features": np.ones((3, 1)), "adjacency": 1 - np.eye(3)},
    ),
    "edges": (Modality.edges(3), np.ones(3)),
    "other": (Modality(groups=np.array([0, 0, 1])), np.ones(3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_modality_is_drawn(kind):
    modality, data = KINDS[kind]
    spec = describe(modality)
    scores = np.linspace(-1, 1, modality.units)
    drawn = picture(spec, data, scores, [0], 1.0)
    parsed(str(drawn))
    assert len(unit_names(spec, data)) == modality.units
    figure = explanation_figure("title", {"m": spec}, {"m": data}, {"e": {"m": scores}})
    figure.canvas.draw()
    # no scores at all is a picture too
    parsed(str(picture(spec, data, np.zeros(modality.units), [], 0.0)))


def test_nodes_are_called_alike_in_pictures_and_sentences():
    modality, data = KINDS["node"]
    spec = describe(modality)
    drawn = str(picture(spec, data, np.zeros(4), [], 0.0))
    written = re.findall(r'class="tick">(\d+)<', drawn)
    assert [f"node {i}" for i in written] == unit_names(spec, data)
    figure = explanation_figure("", {"m": spec}, {"m": data}, {"e": {"m": np.zeros(4)}})
    assert {str(i) for i in range(1, 5)} <= {t.get_text() for t in figure.axes[0].texts}


def test_the_same_graph_is_laid_out_the_same_way():
    adjacency = np.triu(np.ones((5, 5)), 1)
    assert graph_layout(adjacency) == graph_layout(adjacency.copy())
    assert graph_layout(np.zeros((1, 1))) == {0: (0.0, 0.0)}


def test_numbers_and_lists():
    assert [number(x) for x in (0.999, 1e-5, -0.25, 1234.5)] == ["1.00", "0", "-.25", "1.2e+03"]
    assert listed(["a"]) == "a"
    assert dataclasses.is_dataclass(Modality)


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_the_page(results, panels, tmp_path, width):
    """Nothing sticks out sideways, and something is drawn: ink on paper, warm colours."""
    page = render(results, panels)
    # Chromium's window is at least 500 wide, a frame is as narrow as a phone; the page in it
    # reports how wide its content is, and the title, which --dump-dom shows, repeats it
    probe = "<script>parent.postMessage(document.documentElement.scrollWidth,'*')</script></body>"
    outer = (
        "<script>onmessage=e=>document.title=e.data</script>"
        f"<iframe src=probe.html width={width} height=3000 style=border:0></iframe>"
    )
    (tmp_path / "outer.html").write_text(outer)
    free = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", probe)
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "probe.html").write_text(free)
    command = [
        BROWSER,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}"),
        f"--window-size={width},3000",
    ]
    shot = tmp_path / "shot.png"
    dump = ["--dump-dom", "--virtual-time-budget=5000", f"file://{tmp_path}/outer.html"]
    for extra in ([f"--screenshot={shot}", f"file://{tmp_path}/page.html"], dump):
        done = subprocess.run(
            [*command, *extra], capture_output=True, text=True, timeout=120, check=True
        )
    image = matplotlib.image.imread(shot)
    assert image.shape[1] == width
    paper = np.array([0xFB, 0xFA, 0xF6]) / 255
    ink = np.abs(image[..., :3] - paper).sum(-1) > 0.05
    assert 0.05 < ink.mean() < 0.95
    assert ink[:600].any(axis=1).mean() > 0.3
    measured = re.search(r"<title>(\d+)</title>", done.stdout)
    assert measured is not None
    assert int(measured[1]) <= width
