"""A data folder -> the format of its annotations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smnas_optuna.config import DataSettings
from smnas_optuna.data.formats.coco_export import coco_files
from smnas_optuna.data.formats.roboflow import roboflow_files
from smnas_optuna.data.formats.voc_layout import voc_source
from smnas_optuna.data.formats.yolo_layout import YAML_NAMES, yolo_source

Format = Literal["coco", "roboflow", "yolo", "voc"]
TITLES: dict[Format, str] = {
    "coco": "COCO",
    "roboflow": "Roboflow's COCO export",
    "yolo": "YOLO",
    "voc": "Pascal VOC",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """A format, and what tells it.

    Attributes:
        format: The format.
        why: What tells it, for the user; empty if the study file names the format or the files.
        others: Other formats that the folder looks like.
    """

    format: Format
    why: str = ""
    others: tuple[Format, ...] = ()

    def note(self, settings: DataSettings) -> tuple[str, ...]:
        """Return what a user should know of the choice; nothing about COCO, if the study file describes it itself."""
        if self.format == "coco" and not self.why:
            return ()
        notes = [f"read as {TITLES[self.format]}, as {self.why or 'format in [data] of study.toml says'}"]
        if self.others:
            others = " and ".join(TITLES[other] for other in self.others)
            notes.append(f"the folder looks like {others} too: set format in [data] of study.toml to choose")
        unused = [name for name in ("val", "test") if getattr(settings, name) is not None]
        if unused:
            what = "files that are not there" if self.format == "coco" else "files of COCO's format"
            notes.append(f"{' and '.join(unused)} in [data] of study.toml name {what}: not used")
        return tuple(notes)


def recognise(root: Path, settings: DataSettings, *, need_train: bool = True) -> Recognised:
    """Return the format of the annotations in ``root``.

    It is the one that ``settings`` names. ``auto`` is COCO if the file for training that ``settings`` names is there;
    otherwise the first of Roboflow's export, YOLO with ``data.yaml``, VOC, YOLO with a list of classes, and COCO's
    exports of other names, whose files are there; and COCO if none of them are. With ``need_train`` such an export has
    a file for training; the other formats are told by any of their files.
    """
    if settings.format != "auto" and settings.format != "coco":
        return Recognised(format=settings.format)
    if (root / settings.train).exists():
        return Recognised(format="coco")
    exported = _exported_coco(root, settings, need_train=need_train)
    if settings.format == "coco":
        return Recognised(format="coco", why=exported)
    found: dict[Format, str] = {}
    if roboflow := roboflow_files(root):
        found["roboflow"] = f"{next(iter(roboflow.values())).relative_to(root)} is there"
    described = yolo_source(root)
    if described is not None and described.name in YAML_NAMES:
        found["yolo"] = f"{described.relative_to(root)} is there"
    if (source := voc_source(root)) is not None:
        found["voc"] = f"there are XML files in {'it' if source == root else f'{source.relative_to(root)}/'}"
    if described is not None and not found:  # a list of classes may belong to any format
        found["yolo"] = f"{described.relative_to(root)} is there"
    if not found and not exported and (root / "labels").is_dir() and (root / "images").is_dir():
        found["yolo"] = "labels/ is there beside images/"
    if exported:
        found["coco"] = exported
    if not found:
        return Recognised(format="coco")
    chosen, *others = found
    return Recognised(format=chosen, why=found[chosen], others=tuple(others))


def _exported_coco(root: Path, settings: DataSettings, *, need_train: bool) -> str:
    """Return what tells a COCO export; empty if there is none, or a file that ``settings`` names for it is there."""
    if any(file is not None and (root / file).exists() for file in (settings.val, settings.test)):
        return ""  # then the name of the file for training is a mistake
    files = list(coco_files(root, need_train=need_train).values())
    return f"{files[0].relative_to(root)} is there" if files else ""
