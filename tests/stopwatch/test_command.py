from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from smnas_optuna.stopwatch.command import Progress, main

from ..runtime.exported_files import DESCRIPTION
from ..runtime.without_torch import WITHOUT_TORCH
from .conftest import REFERENCE


def _arguments(file: Path, reference: Path, folder: Path, *more: str) -> list[str]:
    return [str(file), str(reference), "--images", str(folder), "--threads", "1", "--max-seconds", "0.05", *more]


def test_it_prints_milliseconds_ratio_and_interval(
    file: Path, reference: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(file, reference, folder)) == 0

    printed = capsys.readouterr()
    number = r"[0-9.e+-]+"
    assert re.match(
        rf"{DESCRIPTION.arch}: {number} ms\nreference {REFERENCE.arch}: {number} ms\n"
        rf"ratio {number} \(95 % interval {number} to {number}\)\n"
        r"[0-9]+ runs of each on 4 images, onnxruntime [0-9.]+, 1 thread, .+\n",
        printed.out,
    )
    assert printed.err == "", "no progress in a log"


def test_the_parts_of_a_detector_are_a_line(
    named: Path, reference: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(named, reference, folder)) == 0

    assert capsys.readouterr().out.splitlines()[4] == "by part: backbone 100 %"


def test_json_has_everything(file: Path, reference: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_arguments(file, reference, folder, "--json")) == 0

    values = json.loads(capsys.readouterr().out)
    assert (values["arch"], values["reference"], values["images"]) == (DESCRIPTION.arch, REFERENCE.arch, 4)
    assert values["conditions"]["max_seconds"] == 0.05
    assert values["ratio_low"] <= values["ratio"] <= values["ratio_high"]


def test_it_runs_as_a_module_where_there_is_no_torch(file: Path, reference: Path, folder: Path) -> None:
    program = f"{WITHOUT_TORCH}\nimport runpy\nrunpy.run_module('smnas_optuna.stopwatch', run_name='__main__')"
    run = subprocess.run(
        [sys.executable, "-c", program, *_arguments(file, reference, folder)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"{DESCRIPTION.arch}: ")


def test_what_is_blocked_is_not_loaded_either(file: Path, reference: Path, folder: Path) -> None:
    program = (
        "import sys\nfrom smnas_optuna.stopwatch.command import main\n"
        "main(sys.argv[1:])\nprint(sorted({'torch', 'pydantic', 'optuna', 'typer', 'rich'} & set(sys.modules)))"
    )
    arguments = _arguments(file, reference, folder)

    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)

    assert run.stdout.splitlines()[-1] == "[]"


def test_mistakes_are_one_message(
    file: Path, reference: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(file.read_bytes()[:999])
    cases = [
        (
            _arguments(tmp_path / "none.onnx", reference, folder),
            f"error: {tmp_path}/none.onnx: there is no such file\n",
        ),
        (_arguments(file, broken, folder), f"error: {broken}: it is no exported detector: it is cut off: "),
        (_arguments(file, reference, tmp_path / "none"), f"error: {tmp_path}/none: there is no such folder\n"),
        (_arguments(file, reference, tmp_path), f"error: {tmp_path}: there are no images in it\n"),
        (
            _arguments(file, reference, folder, "--runtime", "tensorrt"),
            "error: the runtime tensorrt: ONNX Runtime ",
        ),
    ]
    for arguments, message in cases:
        assert main(arguments) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(message)
        assert printed.err.count("\n  fix: ") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--threads", "0", "argument --threads: it must be a whole number in 1..1024, but is '0'"),
        ("--threads", "two", "argument --threads: it must be a whole number in 1..1024, but is 'two'"),
        ("--max-seconds", "0", "argument --max-seconds: it must be seconds in 0.001..86400, but is '0'"),
        ("--max-seconds", "nan", "argument --max-seconds: it must be seconds in 0.001..86400, but is 'nan'"),
        ("--runtime", "torch", "argument --runtime: invalid choice: 'torch'"),
    ],
)
def test_options_are_checked(
    option: str, value: str, message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(file), str(file), "--images", "x", option, value])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [(), ("serve",)])
def test_what_is_too_much_is_said_in_one_short_line(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    stray = ("a", "b", "--images", "c", "\x1b[2Jx\n", *(letter * 999 for letter in "xyz"))

    with pytest.raises(SystemExit) as caught:
        main([*command, *stray])

    line = capsys.readouterr().err.rsplit("error: ", 1)[1]
    assert caught.value.code == 2
    assert len(line) < 600
    assert line.rstrip("\n").isprintable()


def test_a_signal_ends_it(
    file: Path, reference: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "step", interrupt)

    assert main(_arguments(file, reference, folder)) == 130
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_a_terminal_shows_progress_and_a_log_does_not(stream: io.StringIO) -> None:
    times = iter([0, 0, 0.1, 0.6, 0.6, 0.7, 1.2, 1.2])
    with Progress(stream, "timing", now=lambda: next(times)) as progress:
        for _ in range(3):
            progress.step()
        progress.again()
        progress.step()

    lines = ["timing: 0 s", "timing: 1 s", "timing again, as the interval was wide: 1 s", ""]
    assert stream.getvalue() == ("".join(f"\r\x1b[K{line}" for line in lines) if stream.isatty() else "")
