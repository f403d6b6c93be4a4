"""The report page: self-contained, complete, and safe against what titles may hold."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from components.evaluate.plots import duration
from components.evaluate.report import best_arms, verdict
from components.evaluate.step import evaluate
from components.evaluate.svg import house_style, inline
from components.evaluate.training_plots import alignment_maps
from sella_rec.config import Config
from sella_rec.metrics.calibration import calibration_error, reliability
from sella_rec.tracking.tracker import Tracker

SECTIONS = {"arms", "paired", "scores", "training", "alignment", "time", "examples", "data", "config"}
VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """Collects ids, tags and resources, and checks that tags nest."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.resources: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                self.resources.append(value)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def output(world, make_bundle, tmp_path_factory) -> Path:
    config = Config.model_validate({"evaluate": {"bootstrap_samples": 100, "examples": 25}})
    folder = tmp_path_factory.mktemp("report") / "evaluation"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.evaluate.step.load_bundle", lambda path, device: make_bundle())
        inputs = (world.dataset, world.collab, world.adapter, Path("unused"), world.curves)
        evaluate(config, *inputs, folder, Tracker(), alignment=world.alignment, seconds={"tune-llm": 412.0})
    return folder


@pytest.fixture(scope="module")
def text(output) -> str:
    return (output / "report.html").read_text()


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_nothing_is_loaded_from_anywhere(page, text):
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in page.resources), page.resources
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)", text))
    addresses = set(re.findall(r"https?://[^\"'\s<]*", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names of XML, not places


def test_every_section_and_chart_is_there(page, text):
    assert set(page.ids) >= SECTIONS
    # charts of scores and time, one for each quantity of training, two maps
    assert text.count("<svg") == 6 + 7 + 2
    assert text.count("<figcaption>") == text.count("<figure")
    assert len(page.ids) == len(set(page.ids)), "ids must be unique, or clips and markers refer to another chart's"


def test_all_numbers_of_the_summary_are_shown(output, text):
    summary = json.loads((output / "summary.json").read_text())
    for parts in summary["arms"].values():
        for values in parts.values():
            assert all(f"{values[metric]:.4f}" in text for metric in ("auc", "uauc", "ndcg", "map"))
            assert f"{values['uauc_ci'][0]:.4f}–{values['uauc_ci'][1]:.4f}" in text


def test_a_hostile_title_is_text(text):
    assert "<script" not in text
    assert "&lt;script&gt;alert(" in text


def test_a_title_on_a_chart_is_text_and_no_formula():
    title = "<b>$\\frac{1}$ & so on"
    at = {"item_id": [1, 1], "title": [title] * 2, "kind": ["projected", "semantics"], "x": [0.0, 1.0], "y": [0.0, 1.0]}
    points = pl.concat([pl.DataFrame(at).with_columns(when=pl.lit(when)) for when in ("before", "after")])
    with house_style():
        svg = inline(alignment_maps(points)["after"], "map")
    assert title in "".join(ElementTree.fromstring(svg.replace("xlink:href", "href")).itertext())


def test_plots_are_well_formed_files_of_their_own(output):
    names = {path.name for path in (output / "plots").iterdir()}
    assert {"roc.svg", "calibration.svg", "paired.svg", "user-auc.svg", "alignment-after.svg"} <= names
    assert "curve-tune-llm-train-loss.svg" in names
    for path in (output / "plots").iterdir():
        content = path.read_text()
        ElementTree.fromstring(content)
        assert "var(--" not in content


def test_colours_of_the_page_follow_the_mode(text):
    body = text[text.index("<body") :]
    assert "prefers-color-scheme: dark" in text
    assert not re.findall(r"(?:fill|stroke): #(?!none)[0-9a-f]{6}", body), "a colour that dark mode cannot change"


def test_without_alignment_curves_and_times(world, bundle, tmp_path):
    config = Config.model_validate({"evaluate": {"bootstrap_samples": 100}})
    evaluate(config, world.dataset, world.collab, world.adapter, Path("unused"), {}, tmp_path / "out", Tracker())
    bare = (tmp_path / "out" / "report.html").read_text()
    assert set(Page(bare).ids) >= SECTIONS
    assert "This report was made without the alignment" in bare


def test_best_arms_include_ties_as_shown():
    part = {"auc": 0.5, "uauc": None, "ndcg": 0.5, "map": 0.5}
    arms = {
        arm: {name: dict(part) for name in ("all", "warm", "cold")} for arm in ("mf", "lightgcn", "text_only", "sella")
    }
    arms["mf"]["all"]["auc"] = arms["sella"]["all"]["auc"] = 0.70001
    best = best_arms(arms)
    assert {arm for slice_, metric, arm in best if (slice_, metric) == ("all", "auc")} == {"mf", "sella"}
    assert not any(metric == "uauc" for _, metric, _ in best)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.01, 0.02), "better"),
        ((-0.02, -0.01), "worse"),
        ((-0.1, 0.1), "no clear difference"),
        (None, "unknown"),
    ],
)
def test_verdict(interval, words):
    assert verdict(interval) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(2.13, "2.1 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (7620, "2 h 07 min")]
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_calibration_error_of_planted_probabilities():
    draw = np.random.default_rng(0)
    probability = draw.random(40_000)
    label = draw.random(40_000) < probability
    assert calibration_error(label, probability) < 0.01
    off_by_two_tenths = np.clip(probability + 0.2, 0, 1)
    expected = np.mean(off_by_two_tenths - probability)
    assert calibration_error(label, off_by_two_tenths) == pytest.approx(expected, abs=0.01)


def test_equal_probabilities_share_a_bin():
    label, probability = np.array([1, 0, 1, 0, 1, 1]), np.array([0.3, 0.3, 0.3, 0.3, 0.9, 0.9])
    predicted, observed, rows = reliability(label, probability)
    assert (predicted.tolist(), observed.tolist(), rows.tolist()) == (
        [pytest.approx(0.3), pytest.approx(0.9)],
        [0.5, 1.0],
        [4, 2],
    )
