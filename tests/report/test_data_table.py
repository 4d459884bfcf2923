from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console

from smnas_optuna.data import Splits
from smnas_optuna.overview.look import look
from smnas_optuna.report.data_table import print_overview

from ..overview.made import dataset
from ..overview.test_look import SETTINGS


def test_a_line_for_each_split_and_each_suspicion(tmp_path: Path) -> None:
    train = dataset(tmp_path, [[(0, 0, 30, 30), (0, 0, 9, 9)], []], notes=["a note"])
    val = dataset(tmp_path, [[(0, 0, 64, 48)]], labels=[[2]])
    overview = look("mine [b]", tmp_path, Splits(train=train, val=val, content_hash=""), SETTINGS)
    console = Console(file=StringIO(), width=100)
    print_overview(overview, console)

    assert isinstance(console.file, StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    assert " ".join(lines[:2]).strip() == "Data of mine [b], read as COCO, as instances_train.json is there"
    assert "training 2 2 1 20 1 1 of 2" in lines
    assert "validation 1 1 1 55 0 1 of 2" in lines
    assert "at 512x512: objects have a median edge of 240 px, 0 % are below 8 px" in lines
    assert "Boxes that cover 95 % of their image or more: 1 of 3" in lines
    assert "Images without objects: 1 of 3" in lines
    assert lines[-1] == "notes of smnas data check: 4, on the page"
