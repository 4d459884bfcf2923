from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler

from smnas_optuna.errors import StudyError
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.database import DATABASE
from smnas_optuna.study.fingerprint import check_fingerprint, trained_alike
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL

DEPENDS_ON = {"data": {"content": "abc"}, "recipe": {"train": {"epochs": 3, "scale_jitter": (0.8, 1.2)}}}


def make(folder: Path) -> optuna.Study:
    return StudyFolder(folder).create(STRUCTURAL, RandomSampler())


def test_a_fingerprint_that_fits_passes(tmp_path: Path) -> None:
    study = make(tmp_path)
    check_fingerprint(study, DEPENDS_ON, StudyFolder(tmp_path).place)  # a new study has none yet
    study.set_user_attr(FINGERPRINT, DEPENDS_ON)

    check_fingerprint(StudyFolder(tmp_path).load(STRUCTURAL), DEPENDS_ON, StudyFolder(tmp_path).place)


def test_every_difference_of_a_fingerprint_is_named(tmp_path: Path) -> None:
    study = make(tmp_path)
    study.set_user_attr(FINGERPRINT, DEPENDS_ON)
    now = {"data": {"content": "abd"}, "recipe": {"train": {"epochs": 3, "scale_jitter": (0.8, 1.2), "flip": 0.5}}}

    with pytest.raises(StudyError) as caught:
        check_fingerprint(study, now, StudyFolder(tmp_path).place)

    message = str(caught.value)
    assert f"{tmp_path / DATABASE}: the study was made with other data and recipe" in message
    assert "data.content was abc, is abd" in message
    assert "recipe.train.flip was not there, is 0.5" in message
    assert "scale_jitter" not in message
    assert "fix: " in message


def test_a_long_value_is_shortened(tmp_path: Path) -> None:
    study = make(tmp_path)
    study.set_user_attr(FINGERPRINT, {"data": {"classes": ["cat"] * 10_000}})

    with pytest.raises(StudyError) as caught:
        check_fingerprint(study, {"data": {"classes": ["dog"]}}, StudyFolder(tmp_path).place)

    assert len(str(caught.value)) < 1000
    assert "data.classes was ['cat', 'cat'," in str(caught.value)
    assert "'cat'], is ['dog']" in str(caught.value)


def test_force_goes_on_with_all_but_another_space(tmp_path: Path) -> None:
    study = make(tmp_path)
    study.set_user_attr(FINGERPRINT, {**DEPENDS_ON, "space": {"heads": ["fc"]}})
    other_recipe = {**DEPENDS_ON, "recipe": {}, "space": {"heads": ["fc"]}}
    other_space = {**DEPENDS_ON, "space": {"heads": ["retina"]}}

    forced = check_fingerprint(study, other_recipe, StudyFolder(tmp_path).place, force=True)

    assert forced == [
        "recipe.train.epochs was 3, is not there",
        "recipe.train.scale_jitter was [0.8, 1.2], is not there",
    ]
    with pytest.raises(StudyError, match="--force continues and marks the trials"):
        check_fingerprint(study, other_recipe, StudyFolder(tmp_path).place)
    with pytest.raises(StudyError) as caught:
        check_fingerprint(study, other_space, StudyFolder(tmp_path).place, force=True)
    assert "space.heads was ['fc'], is ['retina']" in str(caught.value)
    assert "--force" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "alike"),
    [
        ({"train": {"epochs": 3, "scale_jitter": (0.8, 1.2)}}, True),
        ({"train": {"epochs": 3, "scale_jitter": (0.8, 1.2)}, "latency": {"images": 9}}, True),
        ({"train": {"epochs": 4, "scale_jitter": (0.8, 1.2)}}, False),
        ({}, False),
    ],
)
def test_studies_are_trained_alike_if_their_recipes_of_training_are_equal(
    tmp_path: Path, recipe: dict[str, object], alike: bool
) -> None:
    study, other = make(tmp_path), StudyFolder(tmp_path).create("modular/parent", RandomSampler())
    study.set_user_attr(FINGERPRINT, DEPENDS_ON)
    other.set_user_attr(FINGERPRINT, {**DEPENDS_ON, "data": {}, "recipe": recipe})

    assert trained_alike(study, other) == trained_alike(other, study) == alike
