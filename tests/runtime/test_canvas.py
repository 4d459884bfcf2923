from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from smnas_optuna.runtime.canvas import MEAN_COLOUR, canvas_size, fit_inside, place


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (64, 64), (1, 200), (48, 64)])
def test_an_image_is_resized_by_pillow_into_the_upper_left_corner(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)

    canvas = place(pixels, 64, 48)

    resized = fit_inside(height, width, 64, 48)
    expected = np.asarray(Image.fromarray(pixels).resize(resized[::-1], Image.Resampling.BILINEAR))
    assert canvas.shape == (3, *canvas_size(64, 48, portrait=height > width))
    np.testing.assert_array_equal(canvas[:, : resized[0], : resized[1]], expected.transpose(2, 0, 1))
    for rest in (canvas[:, resized[0] :], canvas[:, :, resized[1] :]):
        assert (rest == np.array(MEAN_COLOUR)[:, None, None]).all()


def test_the_multiple_and_the_colour_of_the_rest_can_be_others() -> None:
    canvas = place(np.zeros((10, 20, 3), np.uint8), 20, 12, multiple=8, padding=(1, 2, 3))

    assert canvas.shape == (3, 16, 24)
    assert canvas[:, -1, -1].tolist() == [1, 2, 3]
    assert not canvas[:, :10, :20].any()


edges = st.integers(1, 3000)


@given(height=edges, width=edges, long=st.integers(1, 500), short=st.integers(1, 500))
def test_what_fits_inside_fits_on_its_canvas(height: int, width: int, long: int, short: int) -> None:
    long, short = max(long, short), min(long, short)

    resized = fit_inside(height, width, long, short)

    canvas = canvas_size(long, short, portrait=height > width)
    assert 1 <= resized[0] <= canvas[0]
    assert 1 <= resized[1] <= canvas[1]
