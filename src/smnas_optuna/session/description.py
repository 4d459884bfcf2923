"""Description of a trained detector, stored beside its weights, so that they can be used without the study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from smnas_optuna.engine.device import library_versions
from smnas_optuna.session.testbed import Testbed


def describe_detector(testbed: Testbed, arch: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``detector.json``, as JSON values.

    Args:
        testbed: Data, device and settings of the training.
        arch: Architecture of the detector.
        results: Further entries: metrics and the like.
    """
    splits, constants = testbed.splits, testbed.settings.detector.constants()
    return {
        "arch": arch,
        "classes": list(splits.val.category_names),  # label 1 is the first
        "category_ids": list(splits.val.category_ids),
        "constants": dataclasses.asdict(constants),
        "grey_bits": splits.grey_bits,
        "device": testbed.device_description,
        "versions": library_versions(),
        **results,
    }
