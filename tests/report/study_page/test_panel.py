from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smnas_optuna.report.study_page.known import Known
from smnas_optuna.report.study_page.learning import LearningCurve
from smnas_optuna.report.study_page.panel import panel
from smnas_optuna.report.study_page.panel_sections import panel_sections, phases_of
from smnas_optuna.report.study_page.points import PagePoint, page_points
from smnas_optuna.report.study_page.stored_evaluation import StoredEvaluation
from smnas_optuna.report.summary import summarize
from smnas_optuna.verify.results import SeedRun
from tests.report.report_studies import MIDDLE, full_study

HOSTILE = "</script><script>alert(1)</script>\u202e\"'"


def _point() -> PagePoint:
    return page_points(summarize(full_study()), 0.02)[1]


def _text(known: Known) -> str:
    point = _point()
    return panel(point, *panel_sections(point, known))


def _run(number: int, ap: float | None, test_ap: float | None = None) -> SeedRun:
    return SeedRun(
        arch=MIDDLE,
        number=number,
        seed=number,
        epochs=12,
        metrics=None if ap is None else {"ap": ap},
        test_metrics=None if test_ap is None else {"ap": test_ap},
        failed="it diverged" if ap is None else None,
        seconds=1.0,
        versions={},
    )


def evaluation_of(name: str, role: str = "val") -> StoredEvaluation:
    of_class = {"objects": 5, "ap": 0.25, "ap50": 0.5, "threshold": 0.4, "precision": 0.75, "recall": None}
    return StoredEvaluation.model_validate(
        {
            "detector": {"path": "runs/x", "arch": MIDDLE},
            "images": {"role": role, "images": 12, "content": "0f"},
            "classes": [{"name": name, **of_class}],
            "sizes": [{"low_px": 128.0, "high_px": None, "objects": 3, "ap": 0.5, "ar": 0.25}],
            "all": {"curve": {"threshold": [0.1, 0.9], "precision": [0.5, 1.0], "recall": [0.75, 0.25]}},
        }
    )


def test_a_panel_has_words_numbers_and_what_the_script_compares() -> None:
    text = _text(Known(study_dir=Path("studies/mine")))

    assert f'id="arch={MIDDLE}"' in text
    assert "input 128x96 px, resnet18 with base width 16" in text
    assert "<dt>AP50</dt><dd>41.2</dd>" in text
    assert "AP small" not in text  # there was nothing to measure
    assert 'data-ms="12.25" data-ap="20" data-ap50="41.2" data-params="1234567" data-macs="56700000"' in text


def test_commands_of_kept_weights_are_those_that_use_them() -> None:
    without = _text(Known(study_dir=Path("my studies/a")))
    text = _text(Known(study_dir=Path("my studies/a"), weights=Path("my studies/a/trained/long")))

    assert f"smnas train &#x27;my studies/a&#x27; {MIDDLE}" in without
    assert "smnas export" not in without
    assert f"smnas export &#x27;my studies/a&#x27; {MIDDLE}" in text
    assert "--detector &#x27;my studies/a/trained/long&#x27; --output" in text


def test_verification_is_the_mean_over_seeds_with_its_deviation() -> None:
    runs = [_run(1, 0.2, 0.1), _run(2, 0.3, 0.1), _run(3, None)]
    text = _text(Known(study_dir=Path("a"), runs=runs))

    assert "12 epochs</th><td>3</td><td>25.0 ± 7.1</td><td>10.0 ± 0.0</td><td>1</td>" in text
    assert "smnas verify" not in _text(Known(study_dir=Path("a")))


def test_an_evaluation_shows_classes_sizes_and_a_curve_and_names_are_text() -> None:
    text = _text(Known(study_dir=Path("a"), evaluations=[(Path("e"), evaluation_of(HOSTILE, HOSTILE))]))

    assert "<td>25.0</td><td>50.0</td><td>0.40</td><td>75.0</td><td>-</td>" in text
    assert "128 px and more" in text
    assert "recall (%)" in text
    assert "<script" not in text
    assert "\u202e" not in text


def test_a_curve_of_losses_and_rungs_is_drawn_and_phases_of_a_name_are_added() -> None:
    point = _point()
    record = replace(point.record, ap_by_epoch={1: 0.1}, epochs_done=2, attrs={"seconds": {"gate": 2, "latency": 3.5}})
    known = Known(study_dir=Path("a"), curve=LearningCurve(losses={1: 2.5, 2: 1.25}))
    text = panel(point, *panel_sections(replace(point, record=record), known))

    assert "Loss in the search; mean loss: 1.25 at last" in text
    assert "AP at the rungs and at the end; AP x100: 20 at last" in text
    assert phases_of(record) == {"timing": 5.5}


def test_why_there_are_no_pictures_is_said() -> None:
    assert "There are no pictures: no data." in _text(
        Known(study_dir=Path("a"), no_pictures="There are no pictures: no data.")
    )
