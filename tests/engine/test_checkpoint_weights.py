from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from smnas_optuna.engine.checkpoint import load_weights, remove_weights, save_weights
from smnas_optuna.engine.durable import write_json
from smnas_optuna.errors import CheckpointError

from .foreign_files import FOREIGN, foreign


def _module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    module[0].weight.data = module[0].weight.data.to(memory_format=torch.channels_last)
    return module


def test_weights_and_their_description_are_there_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "arch"
    module = _module()

    path = save_weights(folder, module, {"arch": "a.b", "classes": {"3": "cat"}, "ap": 0.25})

    assert path == folder / "weights.safetensors"
    assert sorted(file.name for file in folder.iterdir()) == ["detector.json", "weights.safetensors"]
    described = json.loads((folder / "detector.json").read_text())
    assert described == {"arch": "a.b", "classes": {"3": "cat"}, "ap": 0.25}
    with safe_open(path, "pt") as stored:
        assert sorted(stored.keys()) == sorted(module.state_dict())
        assert all(torch.equal(stored.get_tensor(name), value) for name, value in module.state_dict().items())


def test_loading_gives_the_same_weights(tmp_path: Path) -> None:
    module, other = _module(), _module(seed=1)
    save_weights(tmp_path, module, {})

    load_weights(tmp_path, other)

    assert all(torch.equal(value, other.state_dict()[name]) for name, value in module.state_dict().items())


def _assert_weights_are_refused(folder: Path, detector: nn.Module, *problems: str) -> None:
    before = {name: value.clone() for name, value in detector.state_dict().items()}

    with pytest.raises(CheckpointError) as refusal:
        load_weights(folder, detector)

    assert refusal.value.message.startswith(f"{folder / 'weights.safetensors'}: ")
    assert all(problem in refusal.value.message for problem in problems)
    assert refusal.value.fix == "train the architecture again, or name the folder of one that is trained"
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Linear(4, 2)),
            "weights of another architecture: 3 of 9 tensors are unknown, such as 1.num_batches_tracked",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), nn.Linear(2, 2)),
            "weights of another architecture: 2 of 11 tensors are missing, such as 3.bias",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)),
            "2.weight is torch.float32 [2, 4] instead of torch.float32 [3, 4]",
        ),
    ],
    ids=["unknown", "missing", "shape"],
)
def test_weights_of_another_architecture_are_not_loaded(other: nn.Module, problem: str, tmp_path: Path) -> None:
    save_weights(tmp_path, _module(), {})

    _assert_weights_are_refused(tmp_path, other, problem)


@foreign
def test_what_holds_no_weights_is_refused_and_not_executed(content: Callable[[Path], bytes], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    (tmp_path / "weights.safetensors").write_bytes(content(bomb))

    _assert_weights_are_refused(tmp_path, _module(), "the weights are damaged or incomplete (")
    assert not bomb.exists()


def test_the_bombs_would_go_off_if_they_were_unpickled(tmp_path: Path) -> None:
    for name in ("a pickle", "what torch.save writes"):
        bomb = tmp_path / name
        content = io.BytesIO(FOREIGN[name](bomb))
        if name == "a pickle":
            pickle.load(content)
        else:
            torch.load(content, weights_only=False)
        assert bomb.exists()


def test_weights_that_are_missing_or_cut_off_are_refused(tmp_path: Path) -> None:
    _assert_weights_are_refused(tmp_path, _module(), "there is no such file")
    path = save_weights(tmp_path, _module(), {})
    content = path.read_bytes()

    for length in (*range(0, len(content), 41), len(content) - 1):
        path.write_bytes(content[:length])
        _assert_weights_are_refused(tmp_path, _module(), "the weights are damaged or incomplete (")
    path.unlink()
    path.mkdir()
    _assert_weights_are_refused(tmp_path, _module(), "the weights are damaged or incomplete (")


def test_saving_again_replaces_what_was_there_and_survives_half_a_file(tmp_path: Path) -> None:
    save_weights(tmp_path, _module(seed=1), {"ap": 0.1})
    (tmp_path / "weights.safetensors.part").write_bytes(b"half")
    (tmp_path / "detector.json.part").write_bytes(b"half")
    module, other = _module(), _module(seed=2)

    save_weights(tmp_path, module, {"ap": 0.2})
    load_weights(tmp_path, other)

    assert torch.equal(other.state_dict()["0.weight"], module.state_dict()["0.weight"])
    assert json.loads((tmp_path / "detector.json").read_text()) == {"ap": 0.2}
    assert not list(tmp_path.glob("*.part"))


def test_a_description_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_json(tmp_path / "detector.json", {"ap": 0.1})

    with pytest.raises(TypeError):
        write_json(tmp_path / "detector.json", {"ap": object()})

    assert json.loads((tmp_path / "detector.json").read_text()) == {"ap": 0.1}


def test_removing_weights_leaves_the_log_and_may_be_done_twice(tmp_path: Path) -> None:
    save_weights(tmp_path, _module(), {})
    (tmp_path / "train.log").write_text("epoch 1")

    remove_weights(tmp_path)
    remove_weights(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["train.log"]
