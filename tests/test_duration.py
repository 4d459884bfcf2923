from __future__ import annotations

import pytest

from smnas_optuna.duration import format_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (59.4 * 60, "59 min"),
        (59.6 * 60, "1 h 0 min"),
        (3 * 3600 + 20 * 60, "3 h 20 min"),
        (23.999 * 3600, "1 d 0 h"),
        (51 * 3600, "2 d 3 h"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
