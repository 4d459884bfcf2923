from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from smnas_optuna.engine.checkpoint import load_weights, remove_weights, save_weights, write_json


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


def test_weights_of_another_architecture_are_not_loaded(tmp_path: Path) -> None:
    save_weights(tmp_path, _module(), {})

    with pytest.raises(RuntimeError, match="Missing key"):
        load_weights(tmp_path, nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Linear(2, 2), nn.Linear(2, 2)))


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
