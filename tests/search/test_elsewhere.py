"""The front of a finished study on a second device."""

from __future__ import annotations

import csv
import platform
import re
from pathlib import Path

import pytest

from smnas_optuna.search.elsewhere import TimedElsewhere, with_front
from smnas_optuna.session.remote import TOKEN
from smnas_optuna.study.scale import Latency

from ..commands import here, records, smnas
from ..stopwatches import SECRET, free_port, stopwatch


def timed(arch: str, ms: float, ap: float, high_ms: float | None = None) -> TimedElsewhere:
    latency = Latency(ms=ms, low_ms=ms, high_ms=high_ms or ms)
    return TimedElsewhere(arch=arch, ap=ap, latency=latency, here_ms=1.0)


def test_its_front_is_that_of_the_second_device() -> None:
    detectors = [timed("c", 3.0, 0.3), timed("a", 1.0, 0.1), timed("b", 2.0, 0.1), timed("lucky", 0.5, 0.3, 9.0)]

    found = with_front(detectors)

    assert [each.arch for each in found] == ["a", "b", "c", "lucky"]
    assert [each.arch for each in found if each.on_front] == ["a", "c"], "an imprecise one counts as its upper end"


def test_a_runtime_without_a_stopwatch_is_refused(tmp_path: Path) -> None:
    said = here("retime", tmp_path, "--runtime", "cuda", check=False)

    assert said.returncode == 1
    assert "error: --runtime without --stopwatch: the runtime of a study is [latency] runtime" in said.stderr


@pytest.mark.slow
def test_a_study_is_timed_on_another_device_and_stays_as_it_is(
    trained_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, SECRET)
    before, port = records(trained_dir), free_port()
    with stopwatch(port, tmp_path):
        run = smnas("retime", trained_dir, "--device", "cpu", "--stopwatch", f"http://127.0.0.1:{port}")

    (path,) = (trained_dir / "report").glob("front-*.csv")
    host = re.sub(r"[^a-z0-9]+", "-", platform.node().lower()).strip("-")
    assert path.name.startswith(f"front-{host}"), "two devices of one kind have a file each"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert {row["arch"] for row in rows} <= {record.arch for record in before if record.trained}
    assert [row for row in rows if row["front"] == "true"]
    assert all(0 < float(row["latency_low_ms"]) <= float(row["latency_ms"]) for row in rows)
    assert "Front on" in run.stdout
    assert f"wrote {path}" in run.stdout
    assert records(trained_dir) == before
