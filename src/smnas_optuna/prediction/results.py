"""Detections in the form of COCO's results files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smnas_optuna.runtime.detections import Detections

RESULTS_FILE = "detections.json"


def results_of(found: Detections, *, image_id: int, file: Path, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the objects of one image as entries of a results file, highest score first.

    Args:
        found: The objects.
        image_id: Number of the image.
        file: The image.
        category_ids: Ids of the classes; label 1 is the first.
    """
    return [
        {
            "image_id": image_id,
            "file_name": str(file).encode(errors="backslashreplace").decode(),
            "category_id": category_ids[label - 1],
            "category_name": name,
            "bbox": [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(score, 5),
        }
        for (x1, y1, x2, y2), label, name, score in zip(
            found.boxes.tolist(), found.labels.tolist(), found.names, found.scores.tolist(), strict=True
        )
    ]


def results_json(results: Sequence[dict[str, Any]]) -> str:
    """Return a results file: a list with one entry a line."""
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in results)
    return f"[\n{lines}\n]\n" if lines else "[]\n"
