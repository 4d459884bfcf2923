"""The images that a detector is evaluated on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b

from smnas_optuna.config import STUDY_FILE
from smnas_optuna.data import CocoDataset, load_apart
from smnas_optuna.data.splits import TEST_IMAGES_FIX
from smnas_optuna.errors import StudyError
from smnas_optuna.evaluation.request import TEST, VAL, EvaluationRequest
from smnas_optuna.evaluation.subject import Subject
from smnas_optuna.quote import quote
from smnas_optuna.session.prepare import Session, other_data
from smnas_optuna.study.fingerprint import refuse_differences
from smnas_optuna.study.folder import StudyFolder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Images:
    """Annotated images with the classes of a detector.

    Attributes:
        dataset: The images and their objects.
        content_hash: Hash of their annotations and pixels.
        category_ids: COCO category of each class of the detector, in its order.
    """

    dataset: CocoDataset
    content_hash: str
    category_ids: tuple[int, ...]

    @property
    def identity(self) -> str:
        """Text that changes when an image, an annotation, or the id of an image or a category changes."""
        ids = [[image.image_id, image.path.name] for image in self.dataset.images]
        content = json.dumps([self.content_hash, ids, self.category_ids])
        return blake2b(content.encode(errors="surrogatepass"), digest_size=16).hexdigest()

    @property
    def most_objects(self) -> int:
        """Largest number of objects in an image; crowd regions are none."""
        return max(int((~image.crowd).sum()) for image in self.dataset.images)


def read_images_of(request: EvaluationRequest, session: Session, subject: Subject) -> Images:
    """Return the images that ``request`` names.

    Raises:
        SmnasError: If the data is not that of the search, the study has no test images, the given ones cannot be
            used, or the classes are not those of the detector.
    """
    splits = session.testbed.splits
    if request.file is None:
        _check_data(request, session)
    if request.file is not None:
        dataset, content_hash = load_apart(
            request.file,
            request.images,
            grey_bits=subject.grey_bits,
            classes=subject.classes,
            drop_empty_boxes=session.settings.data.drop_empty_boxes,
            index_file=session.folder.cache / "evaluated_images.json",
            on_progress=session.step("load"),
        )
        for note in dataset.notes:
            session.listener.note(f"{dataset.source}: {note}")
    elif request.on == VAL:
        dataset, content_hash = splits.val, splits.content_hash
    elif splits.test is None:
        raise StudyError(
            f"--on {TEST}: the study has no test images",
            fix=f"{TEST_IMAGES_FIX}; or name them here: --on FILE.json",
        )
    else:
        assert splits.test_hash is not None
        dataset, content_hash = splits.test, splits.test_hash
    return Images(dataset=dataset, content_hash=content_hash, category_ids=_category_ids(dataset, subject))


def _check_data(request: EvaluationRequest, session: Session) -> None:
    """Check that the data is that of the study, and of the study that the weights lie in if it is another one.

    Raises:
        StudyError: If one of them began with other data, whose thresholds and results would be lost.
    """
    data = session.depends_on["data"]
    around = [each for each in request.detector.resolve().parents if (each / STUDY_FILE).is_file()]
    own = session.folder.path.resolve()
    homes = [StudyFolder(each) for each in around[:1] if each != own and request.detector.is_dir()]
    for folder in (session.folder, *homes):
        refuse_differences(
            other_data(folder, data),
            f"{session.data_root}: the study {folder.path} was made with other",
            fix="name the data of the search: --data DIR, or evaluate on other images alone: --on FILE.json "
            "--images DIR, or --on DIR",
        )


def _category_ids(dataset: CocoDataset, subject: Subject) -> tuple[int, ...]:
    """Return the category of each class: that at its place if all names are the same, otherwise that of its name."""
    if dataset.category_names == subject.classes:
        return dataset.category_ids
    names = Counter(dataset.category_names)
    if names != Counter(subject.classes) or max(names.values()) > 1:
        missing = sorted((Counter(subject.classes) - names) + (names - Counter(subject.classes)))
        raise StudyError(
            f"{dataset.source}: its classes are not those of {subject.path}: {len(dataset.category_names)} and "
            f"{len(subject.classes)}",
            first=f"{quote(missing[0])} is in one of them only" if missing else "several classes have one name",
            fix="evaluate on data with the classes that the detector was trained on",
        )
    id_of = dict(zip(dataset.category_names, dataset.category_ids, strict=True))
    return tuple(id_of[name] for name in subject.classes)
