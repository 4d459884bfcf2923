"""The dashboard in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from smnas_optuna.data import CocoDataset
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL

from ...browser import Page, browser, chromium
from ...session.test_samples import dataset
from ..report_studies import FAST, POOR, add_trial, fill
from .test_beside import keep_pictures
from .test_server import READ_ONLY, num_trials, served

__all__ = ["dataset"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]
HOSTILE = "<script>document.title = 'bad'</script><img src=x onerror=\"document.title = 'bad'\">: no"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.resize(1400, 1000)
        yield opened


def pictures(name: str) -> str:
    """An expression that is true once pictures with that part in their addresses are drawn."""
    return f"[...document.images].some(each => each.src.includes('/artifacts/1/{name}') && each.naturalWidth > 300)"


def test_pictures_and_notes_are_seen_and_a_delete_is_refused(page: Page, tmp_path: Path, dataset: CocoDataset) -> None:
    study = fill(StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler()))
    add_trial(study, None, TrialState.FAIL, arch=POOR, reason=HOSTILE)
    keep_pictures(StudyFolder(tmp_path), FAST, dataset)

    with served(tmp_path, []) as url:
        page.open(f"{url}/dashboard/studies/1/trials?numbers=2")
        page.wait(f"{pictures('3/a-3-0')} && {pictures('3/a-3-1')}")
        assert "resnet18 with base width 8" in page.run("document.body.innerText")

        page.open(f"{url}/dashboard/studies/1")
        page.wait(pictures("f-1-0"))
        page.wait("document.body.textContent.includes('Front of the whole study')")

        page.open(f"{url}/dashboard/studies/1/trials?numbers=9")
        page.wait("document.body.innerText.includes('Not trained to the end')")
        assert HOSTILE.partition(":")[0] in page.run("document.body.innerText")
        assert page.run("document.title") != "bad"

        refusal = "fetch('/api/artifacts/1/3/a-3-0', {method: 'DELETE'}).then(async answer => [answer.status, "
        assert page.run(f"{refusal}(await answer.json()).reason])") == [405, READ_ONLY]
        assert num_trials(url) == 10
        assert {each for each in page.requests if not each.startswith(url)} == set()
