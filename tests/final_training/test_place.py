from __future__ import annotations

import optuna
from optuna.trial import create_trial

from smnas_optuna.final_training.place import OTHERS_GAIN, Place, place_of
from smnas_optuna.study.record import TrialRecord, read_records

from .trainings import ARCH

FASTER, SAME, SLOWER = (f"{side}x{side}.resnet18-w4.fpn-p3-p5-c8.none.retina" for side in (64, 32, 96))


def front() -> list[TrialRecord]:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for arch, point in ((FASTER, (10.0, 0.3)), (SAME, (20.0, 0.4)), (SLOWER, (30.0, 0.5))):
        study.add_trial(create_trial(values=point, user_attrs={"arch": arch}))
    return read_records(study)


def test_a_detector_keeps_its_place_if_no_other_is_as_fast_and_as_accurate() -> None:
    place = place_of(ARCH, 20.0, 0.45, front())

    assert place == Place(dominated_by=(), dominates=())
    assert place.in_words() == f"on the front: no other member is as fast and as accurate; {OTHERS_GAIN}"


def test_its_own_trial_in_the_search_does_not_count() -> None:
    assert place_of(ARCH, 25.0, 0.35, front()).dominated_by == ()


def test_it_may_beat_others() -> None:
    place = place_of(ARCH, 20.0, 0.6, front())

    assert place.dominates == (SLOWER,)
    assert (
        "on the front: no other member is as fast and as accurate, and it beats 1 of them in both; " in place.in_words()
    )


def test_it_is_off_the_front_if_others_dominate_it() -> None:
    one, two = place_of(ARCH, 20.0, 0.3, front()), place_of(ARCH, 31.0, 0.2, front())

    assert one.dominated_by == (FASTER,)
    assert one.in_words() == f"off the front: {FASTER} is no slower and no less accurate; {OTHERS_GAIN}"
    assert two.dominated_by == (FASTER, SLOWER)
    assert f"2 members, {FASTER} among them, are no slower and no less accurate; " in two.in_words()
