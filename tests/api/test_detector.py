from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from smnas_optuna import load_detector
from smnas_optuna.api.detector import TrainedDetector
from smnas_optuna.data import CocoDataset, DetectionLoader, load_coco
from smnas_optuna.engine.evaluate import detect
from smnas_optuna.errors import CheckpointError, DataError, DeviceError

from ..models.tiny_detectors import ONE_STAGE, TWO_STAGE, kinds
from .api_folders import CLASSES, description_of, keep_detector

SIZES = [(60, 90), (90, 60), (50, 50), (200, 300), (9, 3), (48, 64), (31, 47)]  # (height, width)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return keep_detector(tmp_path / "runs" / TWO_STAGE, TWO_STAGE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    """Images of all orientations, smaller and larger than the input; in colour, grey, with a palette and 16 bits."""
    root = tmp_path_factory.mktemp("data")
    modes, images = ("RGB", "L", "P", "RGBA", "I;16"), []
    for number, (height, width) in enumerate(SIZES):
        image = Image.new("RGB", (width, height), (60, 90 + 20 * number, 200))
        draw = ImageDraw.Draw(image)
        draw.rectangle((width // 8, height // 4, width // 2, height // 2), fill="yellow")
        draw.ellipse((width // 2, height // 3, width - 1, height - 1), fill="red")
        mode, name = modes[number % len(modes)], f"{number}.{'png' if number else 'jpg'}"
        deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        (deep if mode == "I;16" else image.convert(mode)).save(root / name)
        images.append({"id": number + 1, "file_name": name, "width": width, "height": height})
    categories = [{"id": category, "name": name} for category, name in zip((1, 3, 7), CLASSES, strict=True)]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]
    (root / "val.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return load_coco(root / "val.json", root)


def _evaluated(detector: TrainedDetector, dataset: CocoDataset, batch_size: int) -> dict[int, NDArray[np.float64]]:
    """What evaluation finds by image id: [D, 6], corners, category id and score of each."""
    module = detector.module
    batches = DetectionLoader(
        dataset,
        long=module.long,
        short=module.short,
        batch_size=batch_size,
        device=detector.device,
        seed=0,
        train=False,
    )
    found: dict[int, list[list[float]]] = {image.image_id: [] for image in dataset.images}
    for each in detect(module, batches, dataset.category_ids):
        x, y, width, height = each["bbox"]
        found[each["image_id"]].append([x, y, x + width, y + height, each["category_id"], each["score"]])
    return {image_id: np.array(rows).reshape(-1, 6) for image_id, rows in found.items()}


@pytest.mark.slow
@kinds
def test_finds_what_evaluation_finds(arch: str, dataset: CocoDataset, tmp_path: Path) -> None:
    detector = load_detector(keep_detector(tmp_path, arch), device="cpu")
    evaluated = _evaluated(detector, dataset, batch_size=1)

    for image in dataset.images:
        found = detector.predict(image.path)
        categories = [dataset.category_ids[label - 1] for label in found.labels]
        mine = np.column_stack((found.boxes, categories, found.scores))
        np.testing.assert_allclose(mine, evaluated[image.image_id], rtol=0, atol=1e-3)
    assert sum(map(len, evaluated.values())) > len(dataset.images)


def test_finds_what_evaluation_finds_in_larger_batches(dataset: CocoDataset, run_folder: Path) -> None:
    detector = load_detector(run_folder, device="cpu")
    evaluated = _evaluated(detector, dataset, batch_size=4)

    for image in dataset.images:
        found, expected = detector.predict(image.path), evaluated[image.image_id]
        np.testing.assert_allclose(found.boxes, expected[:, :4], rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected[:, 5], rtol=0, atol=1e-5)


def test_every_form_of_an_image_gives_the_same(dataset: CocoDataset, run_folder: Path) -> None:
    detector, path = load_detector(run_folder, device="cpu"), dataset.images[3].path
    image = Image.open(path).convert("RGB")
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = detector.predict(path)

    for picture in (str(path), image, np.array(image), tensor, tensor / 255):
        found = detector.predict(picture)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.scores, expected.scores)


def test_deep_grey_is_read_with_the_bits_of_its_training(run_folder: Path, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (48, 64)).astype(np.uint16)
    for name, factor in (("full.png", 257), ("few.png", 16)):
        Image.fromarray(grey * factor).save(tmp_path / name)
    expected = load_detector(run_folder, device="cpu").predict(tmp_path / "full.png")
    (run_folder / "detector.json").write_text(json.dumps({**description_of(TWO_STAGE), "grey_bits": 12}))

    found = load_detector(run_folder, device="cpu").predict(tmp_path / "few.png")

    assert len(found) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize("grey_bits", [7, 17, 12.5, "12"])
def test_bits_that_no_grey_has_are_refused(grey_bits: object, run_folder: Path) -> None:
    (run_folder / "detector.json").write_text(json.dumps({**description_of(TWO_STAGE), "grey_bits": grey_bits}))

    with pytest.raises(CheckpointError, match=r"detector\.json: grey_bits: "):
        load_detector(run_folder, device="cpu")


def test_what_is_found_is_sorted_named_and_inside_the_image(dataset: CocoDataset, run_folder: Path) -> None:
    found = load_detector(run_folder).predict(dataset.images[3].path)

    count = len(found)
    assert 0 < count <= 20
    assert found.boxes.shape == (count, 4)
    assert found.labels.shape == (count,)
    assert found.scores.shape == (count,)
    assert [str(each.dtype) for each in (found.boxes, found.labels, found.scores)] == ["float32", "int64", "float32"]
    assert found.names == [CLASSES[label - 1] for label in found.labels]
    assert (np.diff(found.scores) <= 0).all()
    height, width = SIZES[3]
    assert (found.boxes >= 0).all()
    assert (found.boxes <= (width, height, width, height)).all()
    assert found.boxes.max() > 64, "they are in pixels of the image, which is larger than the input"


def test_nothing_found_is_empty(dataset: CocoDataset, run_folder: Path) -> None:
    _change(run_folder, lambda about: about["constants"].update(score_threshold=0.999))

    found = load_detector(run_folder).predict(dataset.images[0].path)

    assert (len(found), found.boxes.shape, found.names) == (0, (0, 4), [])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@kinds
def test_a_gpu_finds_what_evaluation_finds_there(arch: str, dataset: CocoDataset, tmp_path: Path) -> None:
    detector = load_detector(keep_detector(tmp_path, arch))
    assert detector.device.type == "cuda"
    evaluated = _evaluated(detector, dataset, batch_size=1)

    for image in dataset.images:
        found = detector.predict(image.path)
        np.testing.assert_allclose(found.boxes, evaluated[image.image_id][:, :4], rtol=0, atol=1e-3)


def test_what_is_known_of_a_detector_is_there(run_folder: Path) -> None:
    detector = load_detector(str(run_folder), device="cpu")

    assert (detector.arch, detector.classes, detector.device) == (TWO_STAGE, CLASSES, torch.device("cpu"))
    assert detector.description == description_of(TWO_STAGE)
    assert not detector.module.training
    assert repr(detector) == f"TrainedDetector('{TWO_STAGE}', 3 classes, on cpu)"


def test_loading_draws_no_random_numbers(run_folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)

    torch.manual_seed(3)
    load_detector(run_folder, device="cpu")

    assert torch.equal(torch.rand(2), expected)


def test_a_home_folder_is_found(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run_folder.parent))

    assert load_detector(f"~/{run_folder.name}", device="cpu").arch == TWO_STAGE


def test_names_of_classes_command_no_terminal(run_folder: Path) -> None:
    _change(run_folder, lambda about: about.update(classes=["\x1b[2J", "dog\n", "bird"]))

    detector = load_detector(run_folder, device="cpu")

    assert detector.classes == ["\N{REPLACEMENT CHARACTER}[2J", "dog\N{REPLACEMENT CHARACTER}", "bird"]


def test_a_broken_image_is_refused(run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(b"\xff\xd8\xff")

    with pytest.raises(DataError) as caught:
        load_detector(run_folder, device="cpu").predict(path)

    assert str(caught.value).startswith(f"{path}: the image cannot be read: ")
    assert str(caught.value).endswith("\n  fix: name a whole image file")


def _change(run_folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    about = json.loads((run_folder / "detector.json").read_text())
    change(about)
    (run_folder / "detector.json").write_text(json.dumps(about))


def test_thresholds_make_detections_confident(dataset: CocoDataset, run_folder: Path) -> None:
    before = load_detector(run_folder, device="cpu")
    found = before.predict(dataset.images[0].path)
    middle = float(np.median(found.scores))
    _change(run_folder, lambda values: values.update(thresholds=dict.fromkeys(CLASSES, middle)))

    sure = load_detector(run_folder, device="cpu").predict(dataset.images[0].path).confident()

    assert before.thresholds == {}
    assert 0 < len(sure) < len(found)
    assert sure.scores.tolist() == [score for score in found.scores.tolist() if score >= middle]


def test_a_threshold_of_no_class_is_refused(run_folder: Path) -> None:
    _change(run_folder, lambda values: values.update(thresholds={"cat": 0.5, "cow": 0.5}))

    assert "thresholds: 'cow' is none of its classes" in _refusal(run_folder)


@pytest.mark.parametrize(
    ("category_ids", "problem"),
    [
        ([1, 2], "category_ids: should be distinct ids, one for each of 3 classes, but got [1, 2]"),
        ([1, 2, 2], "category_ids: should be distinct ids, one for each of 3 classes, but got [1, 2, 2]"),
        ([], "category_ids: should be distinct ids, one for each of 3 classes, but got []"),
        ("abc", "category_ids: Input should be a valid list, but got 'abc'"),
        ([1, 2, "3"], "category_ids.2: Input should be a valid integer, but got '3'"),
        (None, "category_ids: Input should be a valid list, but got None"),
    ],
)
def test_damaged_category_ids_are_refused(category_ids: object, problem: str, run_folder: Path) -> None:
    _change(run_folder, lambda values: values.update(category_ids=category_ids))

    assert f"detector.json: {problem}\n" in _refusal(run_folder)


def test_a_detector_without_category_ids_is_whole(run_folder: Path) -> None:
    _change(run_folder, lambda values: values.pop("category_ids"))

    assert load_detector(run_folder, device="cpu").classes == CLASSES


def _refusal(folder: Path, device: Any = "cpu") -> str:
    with pytest.raises((CheckpointError, DeviceError)) as caught:
        load_detector(folder, device=device)
    return str(caught.value)


def test_folders_without_weights_are_refused(run_folder: Path, tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none") == (
        f"{tmp_path}/none: there is no such folder\n  fix: name the folder of a run, such as studies/shapes/runs/ARCH"
    )
    weights = run_folder / "weights.safetensors"
    assert _refusal(weights).startswith(f"{weights}: there is no such folder")
    weights.unlink()
    assert _refusal(run_folder) == (
        f"{run_folder}: there is no weights.safetensors; only members of the front keep their weights, those of "
        "dominated trials are removed\n  fix: name the run of a member, as open_study(STUDY_DIR).front() gives it; "
        "with keep_weights = 'all' under [search] in study.toml, later searches keep all weights"
    )


def test_damaged_weights_are_refused(run_folder: Path) -> None:
    weights = run_folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    message = _refusal(run_folder)

    assert message.startswith(f"{weights}: the weights are damaged or incomplete (")
    assert message.endswith("\n  fix: train the architecture again, or name the folder of one that is trained")


def test_weights_of_another_architecture_are_refused(run_folder: Path) -> None:
    _change(run_folder, lambda about: about.update(arch=ONE_STAGE))

    assert f"{run_folder}/weights.safetensors: weights of another architecture: " in _refusal(run_folder)


def test_a_description_that_is_missing_or_no_object_is_refused(run_folder: Path) -> None:
    file = run_folder / "detector.json"
    fix = "\n  fix: copy the file from where the weights are from, or train the architecture again"
    file.write_text("{")
    assert _refusal(run_folder).startswith(f"{file}: cannot be read: Expecting property name")
    assert _refusal(run_folder).endswith(fix)
    file.write_text("[3]")
    assert _refusal(run_folder) == f"{file}: is no JSON object, but [3]{fix}"
    file.unlink()
    assert _refusal(run_folder) == (
        f"{file}: there is no such file; it says what the weights belong to"
        "\n  fix: copy it there from where the weights are from"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.pop("arch"), "arch: Field required"),
        (lambda about: about.update(arch="resnet"), "arch: architecture 'resnet': 1 modules instead of 5"),
        (lambda about: about.update(classes=[]), "classes: List should have at least 1 item after validation, not 0"),
        (lambda about: about.update(classes=["a", 3]), "classes.1: Input should be a valid string, but got 3"),
        (lambda about: about.pop("constants"), "constants: Field required"),
        (
            lambda about: about["constants"].update(norm="x"),
            "constants.norm: Input should be 'gn' or 'bn', but got 'x'",
        ),
        (lambda about: about["constants"].update(new=1), "constants.new: Extra inputs are not permitted, but got 1"),
    ],
    ids=["no arch", "no such arch", "no classes", "a class", "no constants", "a constant", "an unknown constant"],
)
def test_a_description_that_builds_nothing_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, run_folder: Path
) -> None:
    _change(run_folder, change)

    assert _refusal(run_folder).startswith(f"{run_folder}/detector.json: {message}")


def test_devices_that_are_not_there_are_refused(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _refusal(run_folder, "cuda:1") == ("device='cuda:1' is not known\n  fix: take one of 'auto', 'cpu', 'cuda'")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _refusal(run_folder, "cuda") == (
        f"device='cuda': torch {torch.__version__} sees no CUDA device"
        "\n  fix: check `nvidia-smi` and the installed torch build, or take device='cpu'"
    )
