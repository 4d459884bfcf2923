from __future__ import annotations

import numpy as np
import pytest

from smnas_optuna.new_study import sizes

from .made_facts import make_facts


@pytest.mark.parametrize(
    ("size", "native"), [((640, 480), 640), ((500, 375), 512), ((4000, 3000), 1344), ((64, 64), 96)]
)
def test_nothing_is_enlarged(size: tuple[int, int], native: int) -> None:
    facts = make_facts(size=size)

    assert sizes.native_edge(facts) == native
    assert sizes.largest_edges(facts)[-1] == native


@pytest.mark.parametrize(
    ("edges", "least"),
    [
        ((100.0, 100.0), 96),  # 15 px at 96 px, the smallest of all
        ((30.0, 30.0), 224),  # 10.5 px at 224 px, 9 px at 192 px
        ((8.0, 8.0), 640),  # 8 px at full size: as large as can be
        ((10.0, 210.0), 128),  # a tenth of them below 30 px: 5 px of it at 107 px
    ],
)
def test_the_smallest_objects_keep_some_pixels(edges: tuple[float, float], least: int) -> None:
    assert sizes.least_edge(make_facts(edges=edges)) == least


def test_input_sizes_are_shares_of_the_largest_in_the_shape_of_the_images() -> None:
    chosen = sizes.choose_sizes(make_facts(size=(640, 480)), 320)

    assert chosen.value == ("128x96", "160x120", "224x168", "320x240")
    assert chosen.because.startswith("all images are 640x480; the median object has 16 to 40 px")


def test_small_objects_leave_out_small_sizes() -> None:
    assert sizes.choose_sizes(make_facts(edges=(30.0, 30.0)), 256).value == ("192x144", "256x192")


def test_a_strip_keeps_an_edge_that_a_detector_can_have() -> None:
    assert sizes.size_of(make_facts(size=(3200, 100)), 320) == (320, 32)


@pytest.mark.parametrize("scale", [2.0, 4.0, 8.0])
def test_the_best_anchor_of_an_object_like_an_anchor_is_off_by_its_grid_alone(scale: float) -> None:
    boxes = np.array([[4 * scale, 4 * scale]])

    found = sizes.best_ious(boxes, (scale,), range(2, 3))

    shared = (1 - 1 / (4 * scale)) ** 2  # a quarter of a stride of each edge is outside
    assert found == pytest.approx([shared / (2 - shared)])


def test_best_ious_are_those_of_all_anchors_one_by_one() -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(3, 200, (50, 2))
    naive = []
    for width, height in boxes:
        best = 0.0
        for level in (3, 4, 5):
            for edge in (2.0, 5.0):
                for ratio in (0.5, 1.0, 2.0):
                    w, h = edge * 2**level / ratio**0.5, edge * 2**level * ratio**0.5
                    x = max(0, min(width, w, (width + w) / 2 - 2**level / 4))
                    y = max(0, min(height, h, (height + h) / 2 - 2**level / 4))
                    best = max(best, x * y / (width * height + w * h - x * y))
        naive.append(best)

    assert sizes.best_ious(boxes, (2.0, 5.0), range(3, 6)) == pytest.approx(naive)


@pytest.mark.parametrize(
    ("edges", "scale"),
    [((60.0, 200.0), 8.0), ((25.0, 45.0), 5.0), ((10.0, 20.0), 3.0)],
    ids=["cells", "defects", "tiny"],
)
def test_small_objects_get_small_anchors(edges: tuple[float, float], scale: float) -> None:
    chosen = sizes.choose_anchor_scale(make_facts(edges=edges), [320, 448, 640])

    assert chosen.value == scale
    assert f"anchors of {4 * scale:.0f} to {32 * scale:.0f} px on p2..p5" in chosen.because
    assert ("with the classic 8" in chosen.because) == (scale != 8)


def test_levels_follow_from_small_and_large_objects() -> None:
    small, large = make_facts(edges=(10.0, 20.0)), make_facts(edges=(100.0, 450.0))

    assert sizes.choose_min_levels(small, 320).value == (2,)
    assert sizes.choose_min_levels(large, 320).value == (2, 3)
    assert sizes.choose_max_levels(large, 320, 4.0).value == (5, 6)
    assert sizes.choose_max_levels(small, 320, 4.0).value == (5,)
    assert sizes.choose_max_levels(large, 640, 8.0).because.startswith("p5 has anchors of 256 px; at the largest size")
