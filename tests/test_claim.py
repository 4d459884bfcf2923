"""The benchmark of the paper's claim: its numbers, its pieces, and all of it on a tiny study that is killed midway."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.config import ShapesSettings
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.study.folder import StudyFolder

from .conftest import TINY_STUDY

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules

import claim
from claimed.answer import Retrained, answer_of, contributions_of, further_seeds, retrained_of, spread_of
from claimed.picture import draw
from claimed.processes import FailedError, PausedError, Pieces
from common import begin_like

BENCHMARKS = Path(claim.__file__).parent
CLASSIC, SMALL, FOUND, LUCKY, CHANCE = ("64x64.classic", "64x48.small", "64x48.found", "64x48.lucky", "64x48.chance")


def detector(arch: str, ratio: float, test: float, *, ways: tuple[str, ...] = ("both stages",)) -> Retrained:
    """Three trainings that differ by 0.01."""
    aps = (test - 0.01, test, test + 0.01)
    return Retrained(
        arch=arch,
        baseline=arch in (CLASSIC, SMALL),
        ways=("baselines", "random search", "stage 1", "both stages") if arch in (CLASSIC, SMALL) else ways,
        ratio=ratio,
        ratio_low=0.9 * ratio,
        ratio_high=1.1 * ratio,
        ms=20 * ratio,
        val_aps=tuple(ap + 0.02 for ap in aps),
        test_aps=aps,
        test_interval=(test - 0.05, test + 0.05),
        failed=0,
    )


def test_the_best_within_half_of_the_latency_is_compared_and_chosen_by_the_validation_images() -> None:
    lucky = detector(LUCKY, 0.4, 0.6)
    lucky = replace(lucky, val_aps=(0.3, 0.3, 0.3))
    slow = detector("64x48.slow", 0.6, 0.9)
    answer = answer_of([lucky, detector(FOUND, 0.5, 0.45), slow, detector(CLASSIC, 1.0, 0.4)], CLASSIC)

    assert answer is not None
    assert answer.best is not None
    assert answer.best.arch == FOUND
    assert answer.difference == pytest.approx(0.05)
    # four detectors of three seeds: 8 degrees of freedom, t = 2.306; s = 0.01
    assert answer.margin == pytest.approx(2.306 * 0.01 * math.sqrt(2 / 3), rel=1e-3)


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (0.46, "yes, beyond the noise of the seeds"),
        (0.415, "yes in the mean, and chance may have made it"),
        (0.405, "no in the mean, and chance may have hidden it"),
        (0.3, "no, beyond the noise of the seeds"),
    ],
)
def test_the_verdict_knows_the_noise(test: float, verdict: str) -> None:
    answer = answer_of([detector(FOUND, 0.3, test), detector(CLASSIC, 1.0, 0.4)], CLASSIC)

    assert answer is not None
    assert answer.verdict == verdict


def test_a_seed_that_is_lucky_on_both_kinds_of_images_does_not_choose_itself() -> None:
    lucky = replace(detector(LUCKY, 0.3, 0.4), val_aps=(0.40, 0.40, 0.49), test_aps=(0.40, 0.40, 0.49))
    steady = replace(detector(FOUND, 0.3, 0.4), val_aps=(0.42, 0.42, 0.42), test_aps=(0.42, 0.42, 0.42))
    answer = answer_of([lucky, steady, detector(CLASSIC, 1.0, 0.4)], CLASSIC)

    assert answer is not None
    assert answer.best == lucky, "the highest mean"
    # with the third training the first two choose `lucky`; without it they choose `steady`
    assert answer.difference == pytest.approx((0.40 + 0.40 + 0.42) / 3 - 0.4)


def test_a_detector_of_which_a_training_diverged_is_no_answer() -> None:
    diverged = replace(detector(LUCKY, 0.3, 0.9), val_aps=(0.9,), test_aps=(0.9,), failed=2)
    answer = answer_of([diverged, detector(FOUND, 0.3, 0.4), detector(CLASSIC, 1.0, 0.4)], CLASSIC)

    assert answer is not None
    assert answer.best is not None
    assert answer.best.arch == FOUND


def test_half_of_the_latency_is_doubted_where_its_interval_is() -> None:
    base = detector(CLASSIC, 1.0, 0.4)

    def verdict(each: Retrained) -> str:
        answer = answer_of([each, base], CLASSIC)
        assert answer is not None
        return answer.verdict

    assert verdict(detector(FOUND, 0.4, 0.46)) == "yes, beyond the noise of the seeds"
    doubt = "yes, beyond the noise of the seeds; whether it takes half of the latency is not sure"
    assert verdict(detector(FOUND, 0.48, 0.46)) == doubt
    assert verdict(replace(detector(FOUND, 0.3, 0.46), alone=False)) == doubt
    nothing = "no: the search found nothing within half of the latency"
    assert verdict(detector(FOUND, 0.52, 0.46)) == f"{nothing}; what is just above may be within it"
    assert verdict(detector(FOUND, 0.8, 0.46)) == nothing


def test_a_detector_that_hardly_learns_says_nothing_about_the_spread_of_the_others() -> None:
    poor = replace(detector(LUCKY, 0.1, 0.1), test_aps=(0.02, 0.1, 0.2))
    others = [detector(FOUND, 0.3, 0.42), detector(CLASSIC, 1.0, 0.4)]
    spread = spread_of([poor, *others], CLASSIC)

    assert spread is not None
    assert spread.deviation == pytest.approx(0.01)
    assert spread.freedom == 4
    assert set(further_seeds([poor, *others], CLASSIC)) == {FOUND, CLASSIC}


def test_what_was_timed_beside_other_work_is_marked() -> None:
    busy = {**FINISHED["latency"][FOUND], "alone": False}
    text = claim.tables({**FINISHED, "latency": {**FINISHED["latency"], FOUND: busy}})

    assert "| 0.400 (0.400..0.400) * |" in text
    assert "*: other work disturbed" in text
    assert "*: other work" not in claim.tables(FINISHED)


def test_without_anything_so_fast_or_the_first_baseline_there_is_no_detector_to_compare() -> None:
    chance = detector(CHANCE, 0.2, 0.9, ways=("random search",))
    answer = answer_of([chance, detector(SMALL, 0.3, 0.5), detector(CLASSIC, 1.0, 0.4)], CLASSIC)

    assert answer is not None
    nothing = "no: the search found nothing within half of the latency"
    assert (answer.best, answer.verdict) == (None, nothing), "neither baselines nor random search"
    assert answer_of([chance], CLASSIC) is None


def test_the_interval_of_a_further_seed_is_wider_than_that_of_the_mean() -> None:
    each = detector(FOUND, 0.5, 0.5)
    low, high = further_seeds([each], FOUND)[FOUND]

    assert high - 0.5 == pytest.approx(0.5 - low) == pytest.approx(4.303 * 0.01 * math.sqrt(4 / 3), rel=1e-3)
    assert further_seeds([replace(each, val_aps=(0.5,), test_aps=(0.5,))], FOUND) == {}


def verified(*archs: str, seeds: int = 2) -> dict[str, Any]:
    """A ``verify.json``."""
    entries = [
        {"arch": arch, "baseline": arch == CLASSIC, "failed": 0, "test_ap_low": 0.3, "test_ap_high": 0.5}
        for arch in archs
    ]
    runs = [
        {"arch": arch, "number": number, "metrics": {"ap": 0.4}, "test_metrics": {"ap": 0.39 + 0.01 * number}}
        for arch in archs
        for number in range(1, seeds + 1)
    ]
    return {"architectures": entries, "runs": runs}


FINISHED: dict[str, Any] = {
    "classic": CLASSIC,
    "verified": {
        "stage 1": verified(CLASSIC, SMALL),
        "both stages": verified(CLASSIC, FOUND),
        "random search": verified(CLASSIC, FOUND, CHANCE),
    },
    "latency": {
        arch: {"ratio": ratio, "ratio_low": ratio, "ratio_high": ratio, "p10_ms": 20 * ratio}
        for arch, ratio in ((CLASSIC, 1.0), (SMALL, 0.25), (FOUND, 0.4), (CHANCE, 0.2))
    },
}


def test_each_training_counts_once_and_both_stages_have_what_the_first_one_found() -> None:
    found = {each.arch: each for each in retrained_of(FINISHED)}

    assert list(found) == [CHANCE, SMALL, FOUND, CLASSIC], "fastest first"
    assert found[CLASSIC].test_aps == pytest.approx((0.40, 0.41))
    assert found[SMALL].ways == ("stage 1", "both stages")
    assert found[FOUND].ways == ("both stages", "random search")
    assert found[CHANCE].ways == ("random search",)


def test_each_way_has_its_own_detectors_and_the_baselines() -> None:
    rows = contributions_of(retrained_of(FINISHED))
    volumes, fast = {way: volume for way, volume, _, _ in rows}, {way: ap for way, _, _, ap in rows}

    assert volumes["baselines"] < volumes["stage 1"] == volumes["both stages"] < volumes["random search"]
    assert fast["baselines"] is None, "none is so fast"


def test_the_tables_have_all_and_the_answer() -> None:
    text = claim.tables(FINISHED)

    assert "| `64x48.found` | 8.00 | 0.400 (0.400..0.400) | 2 | 40.0 | 40.5 | 30.0..50.0 |" in text
    assert re.search(r"the claim: (yes|no)", text)
    assert "`64x48.found` takes 0.40" in text or "`64x48.small` takes 0.25" in text
    assert text.count("\n| random search |") == 1


def test_the_picture_has_a_panel_for_each_data_set() -> None:
    retrained = retrained_of(FINISHED)
    figure = draw({"first": (CLASSIC, retrained), "second": (CLASSIC, retrained)})

    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second"]


def test_random_search_has_the_settings_of_the_study_without_choice(tmp_path: Path) -> None:
    study = tmp_path / "tiny"
    study.mkdir()
    (study / "study.toml").write_text(TINY_STUDY.replace("population = 3", "population = 3\nseed = 7"))

    begin_like(study, tmp_path / "ours", 3)
    begin_like(study, tmp_path / "random", 3, by_chance=True)

    ours, random = ((tmp_path / name / "study.toml").read_text() for name in ("ours", "random"))
    assert "[search]\nseed = 3\ntrials = 5\npopulation = 3\n" in ours
    assert "[search]\nseed = 3\nsurrogate = false\npopulation = 10000\ntrials = 5\nbaselines" in random
    noted = TINY_STUDY.replace("[search]", "[search]  # by chance")
    (study / "study.toml").write_text(noted)
    begin_like(study, tmp_path / "noted", 3)
    assert "[search]  # by chance\nseed = 3\n" in (tmp_path / "noted" / "study.toml").read_text()
    assert ours.partition("[detector]")[2] == random.partition("[detector]")[2]


def test_a_first_baseline_that_is_not_trained_ends_it_at_once(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"the first baseline, 64x64.classic, has no finished training"):
        claim.check_classic(StudyFolder(tmp_path), CLASSIC)
    with pytest.raises(FailedError, match=r"the first baseline, 64x64.classic, has no finished training"):
        claim.check_classic(StudyFolder(tmp_path), CLASSIC, retrained=True)


def test_a_verification_with_too_few_trainings_ends_it() -> None:
    claim.check_complete(Path("ours"), verified(CLASSIC, FOUND, seeds=3), 3)
    short = verified(CLASSIC, FOUND, seeds=3)
    short["runs"].pop()
    with pytest.raises(FailedError, match=f"^ours: fewer than 3 trainings of {FOUND}\n  fix: the log says why"):
        claim.check_complete(Path("ours"), short, 3)


def test_other_seeds_than_those_it_was_begun_with_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shapes_claim").mkdir()
    (tmp_path / "shapes_claim" / "study.toml").write_text(tiny())
    command = ["claim.py", "--data", f"shapes={tmp_path}", "--studies", str(tmp_path), "--work", str(tmp_path / "work")]
    for seeds, said in (("3", "the hours are over"), ("2", "was begun with another --seeds"), ("0", "--seeds: 1 ")):
        monkeypatch.setattr(sys, "argv", [*command, "--hours", "0", "--seeds", seeds])
        with pytest.raises(SystemExit) as caught:
            claim.main()
        assert said in f"{caught.value.code}{capsys.readouterr().err}"


def test_a_piece_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    done: list[str] = []
    pieces = Pieces(folder=tmp_path, deadline=math.inf)
    for _ in range(2):
        pieces.do("one", lambda: done.append("one"))
        pieces.do("two", lambda: done.append("two"))

    assert done == ["one", "two"]
    with pytest.raises(PausedError, match="the hours are over"):
        Pieces(folder=tmp_path, deadline=0.0).do("three", lambda: done.append("three"))
    assert (tmp_path / "log.txt").read_text().count("begins") == 2


INTERRUPTED = """
import math, signal, sys
from pathlib import Path

from claimed.processes import Pieces

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests are started
sys.executable = sys.argv[1]
try:
    Pieces(folder=Path(sys.argv[2]), deadline=math.inf).smnas("structural", Path("study"))
except KeyboardInterrupt:
    sys.exit("interrupted")
"""


def test_an_interrupt_reaches_the_command_that_runs(tmp_path: Path) -> None:
    begun, sleeper = tmp_path / "begun", tmp_path / "sleeper"
    sleeper.write_text(f"#!/bin/sh\nmkdir {begun}\nexec sleep 30\n")
    sleeper.chmod(0o755)
    command = [sys.executable, "-c", INTERRUPTED, str(sleeper), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=BENCHMARKS) as process:
        while process.poll() is None and not begun.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)  # it waits for the sleeper, unless that hears of the interrupt

    assert said.splitlines()[-1] == "interrupted"


def test_a_command_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"smnas modular \S+ failed with status 1: see .*log.txt"):
        Pieces(folder=tmp_path, deadline=math.inf).smnas("modular", tmp_path / "nowhere")

    assert "there is no such folder" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("study", "data", "said"),
    [
        (None, "shapes=.", "there is no such folder"),
        (TINY_STUDY, "shapes=.", "no test images are named"),
        ("test", "shapes=nowhere", "--data shapes=nowhere: there is no such folder"),
        ("test", "shapes", "'shapes' is not NAME=DIR"),
        ("no baselines", "shapes=.", "no baseline is named"),
    ],
    ids=["no study", "no test images", "no data", "no name", "no baselines"],
)
def test_what_cannot_be_tried_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    study: str | None,
    data: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = {"test": tiny(), "no baselines": without_baselines()}.get(str(study), study)
    if text is not None:
        (tmp_path / "studies" / "shapes_claim").mkdir(parents=True)
        (tmp_path / "studies" / "shapes_claim" / "study.toml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["claim.py", "--data", data, "--work", "work", "--output", "claim.json"])

    with pytest.raises(SystemExit):
        claim.main()

    assert said in capsys.readouterr().err
    assert not (tmp_path / "claim.json").exists()


def tiny() -> str:
    """The tiny study with its own data folder, and with test images."""
    text = re.sub(r"\[data.shapes\]\n(\w.*\n)+", "", TINY_STUDY)
    return text.replace('val = "instances_val.json"\n', 'val = "instances_val.json"\ntest = "instances_test.json"\n')


def without_baselines() -> str:
    """The same without a baseline."""
    reference = 'reference = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"'
    return re.sub(r"(?m)^baselines.*$", "", tiny()).replace("[latency]\n", f"[latency]\n{reference}\n")


@pytest.mark.nightly
def test_a_whole_claim_goes_on_after_a_kill(tmp_path: Path) -> None:
    data, study = tmp_path / "data", tmp_path / "studies" / "shapes_claim"
    make_shapes(data, ShapesSettings(train_images=16, val_images=16, width=64, height=64), on_progress=lambda *_: None)
    halve(data / "instances_val.json", data / "instances_test.json")
    study.mkdir(parents=True)
    text = re.sub(r"trials = 5\npopulation = 3", "trials = 4\npopulation = 3", tiny())
    (study / "study.toml").write_text(re.sub(r"parents = 2\ntrials = 4", "parents = 1\ntrials = 2", text))
    command = [sys.executable, str(BENCHMARKS / "claim.py"), "--data", f"shapes={data}", "--seeds", "2"]
    command += ["--studies", str(study.parent), "--work", str(tmp_path / "work"), "--output", str(tmp_path / "c.json")]
    log = tmp_path / "work" / "shapes" / "log.txt"

    short = subprocess.run([*command, "--hours", "0.002"], capture_output=True, text=True, check=False)
    assert (short.returncode, short.stderr) == (1, "the hours are over; run the same command to resume\n")

    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(log, "trial 3 ", killed)
    finally:
        killed.kill()
        killed.wait()

    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    records = [StudyFolder(tmp_path / "work" / "shapes" / name).records() for name in ("ours", "random")]
    assert [sum(record.trained for record in each) for each in records] == [6, 6]
    assert {record.origin for record in records[1] if record.trained} == {"baseline", "random"}
    found = json.loads((tmp_path / "c.json").read_text())["results"]["shapes"]
    ways = {way for each in retrained_of(found) for way in each.ways}
    assert ways == {"baselines", "random search", "stage 1", "both stages"}
    assert 0.3 < found["latency"][found["classic"]]["ratio"] < 3, "to itself, on a machine that may be busy"
    assert all(len(each.test_aps) + each.failed == 2 for each in retrained_of(found))
    assert (tmp_path / "c.png").stat().st_size > 10_000

    before = log.read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the claim: " in again.stdout
    assert log.read_text() == before, "nothing is left to do"


def halve(whole: Path, half: Path) -> None:
    """Move every second image of one annotation file into another."""
    document = json.loads(whole.read_text())
    moved = {image["id"] for image in document["images"][1::2]}
    for file, belongs in ((half, moved.__contains__), (whole, lambda image: image not in moved)):
        images = [image for image in document["images"] if belongs(image["id"])]
        rows = [row for row in document["annotations"] if belongs(row["image_id"])]
        file.write_text(json.dumps({**document, "images": images, "annotations": rows}))


def _wait_for(log: Path, text: str, process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not (log.is_file() and text in log.read_text()):
        assert time.monotonic() < end, text
        assert process.poll() is None, "it has ended"
        time.sleep(0.1)
