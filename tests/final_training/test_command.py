from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from smnas_optuna import load_detector, load_exported, open_study

from ..commands import PATIENCE, here, smnas, start
from .test_run import add_test_images

pytestmark = pytest.mark.slow  # trains detectors


def test_a_member_is_trained_by_one_command_and_exported(trained_dir: Path, tmp_path: Path) -> None:
    arch = open_study(trained_dir).front()[-1].arch
    folder, output = trained_dir / "trained" / f"{arch}.epochs10", tmp_path / "detector.onnx"

    said = smnas("train", trained_dir, "--best", "--device", "cpu").stdout
    again = here("train", trained_dir, "--best", "--device", "cpu").stdout

    assert said.startswith(f"{arch}.epochs10: {arch}\n")
    assert "\ntime: about " in said
    assert "\nexpected AP (x100) on the validation images: " in said
    assert "\nepoch 10/10: loss " in said
    assert "\n| AP | " in said
    assert " ms on the scale of the study (95 %: " in said
    assert f"wrote {folder / 'card.md'}" in said
    assert f"{arch}.epochs10 is finished already: nothing is trained\n" in again
    assert "epoch 1/10" not in again
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert load_detector(folder, device="cpu").arch == arch
    said = here("export", trained_dir, "--output", output).stdout
    assert said.startswith(f"{arch}, with the weights of smnas train: {arch}.epochs10, after epoch ")
    assert load_exported(output).description.arch == arch


def test_killed_it_goes_on_and_with_val_it_is_exported_by_its_name(trained_dir: Path, tmp_path: Path) -> None:
    add_test_images(trained_dir)
    command = ("train", trained_dir, "--knee", "--epochs", "20", "--with-val", "--name", "mine", "--device", "cpu")
    checkpoint = trained_dir / "trained" / "mine" / "checkpoint.safetensors"
    with start(*command, alone=True) as process:
        deadline = time.monotonic() + PATIENCE
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert checkpoint.exists()

    resumed = smnas(*command).stdout
    output = tmp_path / "detector.onnx"
    exported = here("export", trained_dir, "--trained", "mine", "--output", output).stdout

    assert ": resumes after epoch " in resumed
    assert "the validation images were trained on, so that only the test images tell how good it is" in resumed
    assert "with the weights of smnas train: mine, after epoch 20 of 20\n" in exported
    assert "it was trained on these images, so that this proves equality and says nothing of accuracy" in exported
    assert load_exported(output).description.ap is None


def test_stopped_it_says_how_to_go_on(trained_dir: Path) -> None:
    with start("train", trained_dir, "--epochs", "300", "--name", "mine", "--device", "cpu", alone=True) as process:
        checkpoint, deadline = trained_dir / "trained" / "mine" / "checkpoint.safetensors", time.monotonic() + PATIENCE
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 128 + signal.SIGINT
    assert said.endswith("stopped by SIGINT; run the same command to resume\n")
    assert (trained_dir / "trained" / "mine" / "curve.png").exists()
    assert not (trained_dir / "trained" / "mine" / "card.md").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--epochs", "2", "--hours", "1"), "error: --epochs and --hours are both given"),
        (("--knee", "--best"), "error: ARCH, --latency-ms, --knee, --best and --trained each choose the detector"),
        (("--with-val",), "with --with-val nothing but test images can tell how good the detector is"),
        (("--ray", "auto", "--processes", "2"), "error: --processes with --ray: a node trains in one process"),
        (("--name", "../x"), "error: '../x' cannot be the name of a training"),
    ],
)
def test_mistakes_are_one_message(trained_dir: Path, options: tuple[str, ...], message: str) -> None:
    done = here("train", trained_dir, *options, check=False)

    assert done.returncode == 1
    assert message in done.stderr
    assert "\n  fix: " in done.stderr
    assert not (trained_dir / "trained" / "mine").exists()
