"""The page in a real browser, from the disk and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from smnas_optuna.report.study_report import StudyReport
from smnas_optuna.study.folder import StudyFolder

from ...browser import Page, browser, chromium
from ..report_studies import DEEP, FAST, MIDDLE, POOR, SLIM, STRONG, add_trial, fill
from ..test_study_report import HOSTILE, make_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]
OPEN = "[...document.querySelectorAll('.panel.open')].map(each => each.dataset.arch)"


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages of a study on data with hostile names."""
    folder = tmp_path_factory.mktemp("pages") / "<b>cells"
    folder.mkdir()
    (folder / "study.toml").write_text("[data]\nval = 'instances_val.json'\n[space.structural]\n[space.modular]\n")
    make_data(folder / "data", HOSTILE)
    sampler, done = optuna.samplers.RandomSampler(seed=0), optuna.trial.TrialState.COMPLETE
    structural = fill(StudyFolder(folder).create("structural", sampler))
    structural.set_user_attr("fingerprint", {"data": {"classes": HOSTILE}})
    add_trial(structural, None, optuna.trial.TrialState.FAIL, arch=POOR, reason=f"{HOSTILE[1]}: no")
    add_trial(StudyFolder(folder).create(f"modular/{MIDDLE}", sampler), (10.0, 0.25), done, arch=SLIM)
    add_trial(StudyFolder(folder).create(f"modular/{STRONG}", sampler), (180.0, 0.625), done, arch=DEEP)
    StudyReport(folder).write()
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.offline()
        yield opened


@pytest.fixture(params=[1400, 390], ids=["wide", "phone"])
def report(page: Page, study_dir: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, on which no script of the names runs and nothing is asked for."""
    address = (study_dir / "report" / "report.html").as_uri()
    page.resize(request.param, 900)
    page.open(address)
    yield page
    assert page.said == []
    assert set(page.requests) <= {address}
    assert page.run("document.documentElement.scrollWidth") <= request.param


def test_each_point_that_is_clicked_shows_its_panel(report: Page) -> None:
    for arch in (FAST, SLIM, MIDDLE, POOR, STRONG, DEEP):
        report.click(f".point[data-arch='{arch}'] .hit")
        report.wait(f"{OPEN}.join() === '{arch}'")
        assert report.run("document.querySelector('.panel.open h3').getClientRects().length") == 1
        assert report.run("document.querySelector('#first').value") == arch


def test_the_parts_of_a_latency_are_bars_in_a_row_whose_names_can_be_read(report: Page) -> None:
    report.click(f".point[data-arch='{MIDDLE}'] .hit")
    report.wait(f"{OPEN}.join() === '{MIDDLE}'")

    sides = report.run(
        "[...document.querySelectorAll('.panel.open .bar')].filter(e => e.closest('.bars'))"
        ".map(e => [e.getBoundingClientRect().left, e.getBoundingClientRect().right])"
    )
    assert len(sides) == 5
    assert [left for left, _ in sides[1:]] == pytest.approx([right for _, right in sides[:-1]], abs=1)
    heights = (
        "[...document.querySelectorAll('.panel.open .bars th[scope=row]')].map(e => e.getBoundingClientRect().height)"
    )
    assert max(report.run(heights)) < 60, "no name is broken into letters"


def test_a_second_point_is_shown_beside_the_first(report: Page) -> None:
    report.click(f".point[data-arch='{FAST}'] .hit")
    report.click(f".point[data-arch='{STRONG}'] .hit", shift=True)

    report.wait(f"{OPEN}.length === 2")
    assert set(report.run(OPEN)) == {FAST, STRONG}
    assert "+136.5 (+3900.0 %)" in report.run("document.querySelector('#difference').textContent")


def test_the_budget_slider_moves(report: Page) -> None:
    said = "document.querySelector('#bought').textContent"
    assert report.run(said).startswith("Within ")
    assert "62.5" in report.run(said)
    report.run("document.querySelector('#budget').focus()")
    for _ in range(60):
        report.press("ArrowLeft")

    report.wait(f"!{said}.includes('62.5')")
    line = "[...document.querySelectorAll('.budget')].every(each => each.getAttribute('visibility') === 'visible')"
    assert report.run(line)
    bought = report.run("document.querySelector('.point.bought').dataset.arch")
    report.click("#open-bought")
    report.wait(f"{OPEN}.join() === '{bought}'")


def test_the_keyboard_suffices(report: Page) -> None:
    report.run("document.querySelector('nav a:last-child').focus()")
    report.press("Tab")
    arch = report.run("document.activeElement.dataset.arch")
    assert arch is not None
    assert "AP " in report.run("document.querySelector('#tip').textContent")
    report.press("Enter")

    report.wait(f"{OPEN}.join() === '{arch}'")


def test_an_address_opens_what_it_names(report: Page) -> None:
    report.run(f"location.hash = 'arch={MIDDLE}&with={SLIM}'")

    report.wait(f"{OPEN}.length === 2")
    assert set(report.run(OPEN)) == {MIDDLE, SLIM}
