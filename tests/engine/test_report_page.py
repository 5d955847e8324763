"""The report as a person gets it: whole in one file, true to the documents beside it, and deaf to what an event file whispers."""

from __future__ import annotations

import base64
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import mdive


class Page(HTMLParser):
    """Text and outward references of a page."""

    def __init__(self, text):
        super().__init__()
        self.words, self.references, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [(tag, k, v) for k, v in attrs if k in {"src", "href", "srcset", "data", "action"}]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def report(flood, tmp_path_factory):
    event = flood.event.model_copy(update={"description": "<script>alert(1)</script> & more"})
    return mdive.run(mdive.plan(event, catalog=flood.catalog), tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def page(report):
    return Page(report.path("report").read_text(encoding="utf-8"))


def test_nothing_is_fetched_and_nothing_runs(page):
    assert "script" not in page.tags
    assert "<script>alert(1)</script> & more" in page.text
    for tag, _, value in page.references:
        assert tag == "a" or value.startswith("data:image/png;base64,"), (tag, value)


def test_policy_forbids_what_the_page_does_not_need(report):
    text = report.path("report").read_text(encoding="utf-8")
    assert "Content-Security-Policy\" content=\"default-src 'none'" in text


def test_the_map_is_a_picture(page):
    (source,) = [v for t, _, v in page.references if t == "image"]
    assert base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG")


def test_numbers_are_those_of_the_quality_document(report, page):
    headline = report.quality.headline
    assert f"{headline.estimate_m2 / 1e6:,.2f} km²" in page.text
    assert f"[{headline.low_m2 / 1e6:,.2f}, {headline.high_m2 / 1e6:,.2f}]" in page.text
    assert headline.low_m2 < headline.estimate_m2 < headline.high_m2
    for check in report.quality.checks:
        assert check.text in page.text
    assert f"{report.quality.observed_share:.1%}" in page.text


def test_sources_method_and_provenance_are_named(report, page):
    plan = report.plan
    for source in plan.sources:
        for item in source.items:
            assert item.id in page.text
    assert f"{plan.algorithm.name} {plan.algorithm.version}" in page.text
    for name in plan.algorithm.parameters:
        assert name in page.text
    for doi in plan.algorithm.references:
        assert ("a", "href", f"https://doi.org/{doi}") in page.references
    assert plan.identity in page.text
    for product in report.manifest.products:
        if product.path.endswith(".tif"):
            assert product.sha256 in page.text


def test_failed_reads_are_named(flood, tmp_path):
    folder = tmp_path / "catalogue"
    shutil.copytree(flood.made.catalog.parent, folder)
    plan = mdive.plan(flood.event, catalog=str(folder / flood.made.catalog.name))
    asset = next(s for s in plan.sources if s.phase == "post").items[0].assets["vv"]
    Path(asset.href).unlink()
    report = mdive.run(plan, tmp_path / "run")
    page = Page(report.path("report").read_text(encoding="utf-8"))
    assert "partial: 1 read failed" in page.text
    assert "Reads that failed" in page.text
    assert "missing" in page.text
