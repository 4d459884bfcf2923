from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from smnas_optuna.batch import Batch
from smnas_optuna.models.anchors import approximate_anchors, square_anchors
from smnas_optuna.models.assign import Matches
from smnas_optuna.models.boxes import decode_boxes
from smnas_optuna.models.guided import BOX_WEIGHTS, SHAPE_WEIGHTS, GuidedRpn
from smnas_optuna.models.losses import shape_losses

CHANNELS = 8
CANVAS = 64


def make_rpn(levels: range = range(2, 6), samples: int = 32, proposals: int = 20) -> GuidedRpn:
    torch.manual_seed(0)
    squares, approximate = square_anchors(levels, 4.0), approximate_anchors(levels, 4.0)
    return GuidedRpn(CHANNELS, levels, squares, approximate, samples=samples, proposals=proposals)


def make_maps(levels: range, count: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        f"p{level}": torch.randn(count, CHANNELS, CANVAS // 2**level, CANVAS // 2**level, generator=generator)
        for level in levels
    }


def make_truth(boxes: Sequence[Sequence[tuple[float, ...]]], crowd: list[list[bool]] | None = None) -> Batch:
    """A batch of blank images with these boxes, padded by boxes of label 0."""
    most = max(map(len, boxes))
    padded = torch.zeros(len(boxes), most, 4)
    labels = torch.zeros(len(boxes), most, dtype=torch.int64)
    crowds = torch.zeros(len(boxes), most, dtype=torch.bool)
    for image, own in enumerate(boxes):
        for place, box in enumerate(own):
            padded[image, place] = torch.tensor(box)
            labels[image, place] = 1
            crowds[image, place] = bool(crowd and crowd[image][place])
    sizes = torch.tensor([[CANVAS, CANVAS]] * len(boxes))
    return Batch(
        images=torch.zeros(len(boxes), 3, CANVAS, CANVAS, dtype=torch.uint8),
        boxes=padded,
        labels=labels,
        crowd=crowds,
        num_boxes=(labels > 0).sum(1),
        image_ids=torch.arange(len(boxes)),
        sizes=sizes,
        original_sizes=sizes,
        seeds=torch.arange(len(boxes)),
    )


def random_truth(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images: list[list[tuple[float, ...]]] = [[]]
    for count in (1, 4):
        corner = torch.rand(count, 2, generator=generator) * 40
        size = 3 + torch.rand(count, 2, generator=generator) * torch.tensor([50.0, 20.0])
        images.append([tuple(box) for box in torch.cat((corner, (corner + size).clamp(max=CANVAS)), dim=1).tolist()])
    return make_truth(images)


# One box on a grid of 8 x 8 places of 8 px, at 0, 8, 16, ...: its inner region is a fifth of it.
#   box 40 x 32 at (14, 22)..(54, 54): centre (34, 38), inner region 30..38 x 34.8..41.2, outer region 24..44 x 30..46
# The inner region has the column of 32 and the row of 40; the outer one those of 24, 32, 40 and of 32, 40.
DRAWING = [
    "........",
    "........",
    "........",
    "........",
    "...iii..",
    "...iCi..",
    "........",
    "........",
]


def drawn(centre: Tensor, looked_at: Tensor) -> list[str]:
    """``C`` a centre, ``i`` not looked at, ``.`` background."""
    signs = torch.where(centre, ord("C"), torch.where(looked_at, ord("."), ord("i"))).view(8, 8)
    return ["".join(map(chr, row)) for row in signs.tolist()]


def test_centre_and_ignored_region_are_those_of_a_drawing() -> None:
    levels = range(3, 4)
    rpn, maps = make_rpn(levels), list(make_maps(levels).values())

    (centre,), (looked_at,) = rpn.location_targets(maps, make_truth([[(14, 22, 54, 54)]]))

    assert drawn(centre, looked_at) == DRAWING


def test_a_large_box_has_several_centre_places() -> None:
    levels = range(3, 4)
    rpn, maps = make_rpn(levels), list(make_maps(levels).values())

    (centre,), _ = rpn.location_targets(maps, make_truth([[(0, 0, 40, 60)]]))

    # a fifth of 40 px about 20: 16 .. 24; of 60 px about 30: 24 .. 36
    assert centre.view(8, 8).nonzero().tolist() == [[3, 2], [3, 3], [4, 2], [4, 3]]


def test_a_taught_centre_is_where_its_square_is() -> None:
    levels = range(2, 5)
    rpn, maps = make_rpn(levels), list(make_maps(levels).values())
    squares = torch.cat(rpn.squares.of(maps))
    middles = (squares[:, :2] + squares[:, 2:]) / 2
    for level, (x, y) in ((2, (20.0, 12.0)), (3, (40.0, 24.0)), (4, (32.0, 48.0))):
        edge = 4.0 * 2**level
        box = (x - edge / 2, y - edge / 2, x + edge / 2, y + edge / 2)

        (centre,), _ = rpn.location_targets(maps, make_truth([[box]]))

        away = (middles[centre] - torch.tensor([x, y])).abs().amax(dim=1)
        assert away.min() == 0
        assert away.max() <= 0.1 * edge, "the inner region is a fifth of the box"


@pytest.mark.parametrize("corner", [(0.0, 0.0), (61.0, 61.0), (61.0, 0.0)])
def test_a_small_box_at_the_border_has_a_centre_place(corner: tuple[float, float]) -> None:
    levels = range(3, 4)
    rpn, maps = make_rpn(levels), list(make_maps(levels).values())

    (centre,), _ = rpn.location_targets(maps, make_truth([[(*corner, corner[0] + 3, corner[1] + 3)]]))

    assert centre.view(8, 8).nonzero().tolist() == [[7 if corner[1] else 0, 7 if corner[0] else 0]]


def test_a_centre_outweighs_the_region_of_another_box_and_a_crowd_is_not_looked_at() -> None:
    levels = range(3, 4)
    rpn, maps = make_rpn(levels), list(make_maps(levels).values())
    boxes = [[(14.0, 22.0, 54.0, 54.0), (22.0, 31.0, 26.0, 33.0), (0.0, 0.0, 64.0, 8.0)]]

    (centre,), (looked_at,) = rpn.location_targets(maps, make_truth(boxes, crowd=[[False, False, True]]))

    assert drawn(centre, looked_at) == ["iiiiiiii", "iiiiiiii", *DRAWING[2:4], "...Cii..", *DRAWING[5:]]


def slow_locations(rpn: GuidedRpn, batch: Batch) -> list[tuple[list[bool], list[bool]]]:
    """The same rules, box by box and place by place."""
    answers = []
    for image in range(len(batch)):
        centres: list[bool] = []
        looked_at: list[bool] = []
        boxes = [
            box for box, label in zip(batch.boxes[image].tolist(), batch.labels[image].tolist(), strict=True) if label
        ]
        for number, level in enumerate(rpn.levels):
            stride = 2**level
            for row in range(CANVAS // stride):
                for column in range(CANVAS // stride):
                    x, y = column * stride, row * stride
                    is_centre = ignored = False
                    for x1, y1, x2, y2 in boxes:
                        middle_x, middle_y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
                        edge = math.sqrt(width * height)
                        nearest = min(
                            range(len(rpn.levels)), key=lambda i: abs(math.log2(edge / (4 * 2 ** rpn.levels[i])))
                        )
                        inner = abs(x - middle_x) <= 0.1 * width and abs(y - middle_y) <= 0.1 * height
                        last = CANVAS // stride - 1
                        nearest_place = tuple(min(last, math.floor(m / stride + 0.5)) for m in (middle_x, middle_y))
                        holds = (column, row) == nearest_place
                        outer = abs(x - middle_x) <= 0.25 * width and abs(y - middle_y) <= 0.25 * height
                        is_centre = is_centre or (nearest == number and (inner or holds))
                        ignored = ignored or (abs(nearest - number) <= 1 and outer)
                    centres.append(is_centre)
                    looked_at.append(is_centre or not ignored)
        answers.append((centres, looked_at))
    return answers


@pytest.mark.parametrize("levels", [range(2, 6), range(4, 5)], ids=["pyramid", "single level"])
@pytest.mark.parametrize("seed", range(5))
def test_location_targets_agree_with_a_slow_obvious_implementation(seed: int, levels: range) -> None:
    rpn, batch = make_rpn(levels), random_truth(seed)
    maps = list(make_maps(levels, len(batch)).values())

    centres, looked_at = rpn.location_targets(maps, batch)

    expected = slow_locations(rpn, batch)
    assert centres.tolist() == [centre for centre, _ in expected]
    assert looked_at.tolist() == [looked for _, looked in expected]
    assert centres.any(dim=1).tolist() == [False, True, True]


def overlap(one: list[float], other: list[float]) -> float:
    across = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


def slow_shapes(rpn: GuidedRpn, maps: list[Tensor], batch: Batch, image: int) -> list[tuple[str, int]]:
    """Of each place ``positive``, ``negative`` or ``neither``, and its box, by plain loops."""
    count = rpn.approximate.per_place
    anchors = [anchor for level in rpn.approximate.of(maps) for anchor in level.tolist()]
    boxes = batch.boxes[image][: int(batch.num_boxes[image])].tolist()
    places = [anchors[start : start + count] for start in range(0, len(anchors), count)]
    table = [[max(overlap(box, anchor) for anchor in place) for box in boxes] for place in places]
    best = [max(row[number] for row in table) for number in range(len(boxes))]
    answers = []
    for row in table:
        most = max(row, default=0.0)
        chosen = row.index(most) if row else 0
        high = most >= 0.7 or any(abs(row[n] - best[n]) < 1e-7 for n in range(len(boxes)))
        answers.append(("positive" if high else "negative" if most < 0.3 else "neither", chosen))
    return answers


@pytest.mark.parametrize("levels", [range(3, 6), range(4, 5)], ids=["pyramid", "single level"])
@pytest.mark.parametrize("seed", range(4))
def test_shape_targets_agree_with_a_slow_obvious_implementation(seed: int, levels: range) -> None:
    rpn, batch = make_rpn(levels), random_truth(seed)
    maps = list(make_maps(levels, len(batch)).values())

    matches: Matches = rpn.shape_targets(maps, batch)

    for image in range(len(batch)):
        expected = slow_shapes(rpn, maps, batch, image)
        found = [
            "positive" if positive else "negative" if negative else "neither"
            for positive, negative in zip(matches.positive[image], matches.negative[image], strict=True)
        ]
        assert found == [kind for kind, _ in expected]
        chosen = [
            index
            for (kind, _), index in zip(expected, matches.index[image].tolist(), strict=True)
            if kind == "positive"
        ]
        assert chosen == [index for kind, index in expected if kind == "positive"]
        assert ("positive" in found) == bool(batch.num_boxes[image])


def test_a_place_is_as_near_to_a_box_as_its_best_approximate_anchor() -> None:
    rpn = make_rpn(range(2, 6))

    assert rpn.approximate.per_place == 9
    assert rpn.squares.per_place == 1
    assert make_rpn(range(4, 5)).approximate.per_place == 15  # one level sees objects of all sizes


@pytest.mark.parametrize(
    ("anchor", "loss"),
    [((0.0, 0.0, 10.0, 20.0), 0.0), ((5.0, 5.0, 10.0, 25.0), 0.4), ((0.0, 0.0, 9.0, 20.0), 0.5 * 0.1**2 / 0.2)],
    ids=["the same shape elsewhere", "half the width", "nearly the width"],
)
def test_the_shape_loss_is_the_bounded_iou_of_width_and_height(anchor: tuple[float, ...], loss: float) -> None:
    box = torch.tensor([[0.0, 0.0, 10.0, 20.0]])

    found = shape_losses(torch.tensor([anchor]), box, torch.tensor([True]))

    assert found.item() == pytest.approx(loss, abs=1e-6)  # 1 - min(w / w*, w* / w), smooth L1 with beta 0.2
    assert shape_losses(torch.tensor([anchor]), box * float("nan"), torch.tensor([False])).item() == 0.0


def test_an_anchor_has_the_predicted_shape_about_its_place() -> None:
    levels = range(3, 5)
    rpn = make_rpn(levels)
    torch.nn.init.zeros_(rpn.shape.weight)
    with torch.no_grad():
        rpn.shape.bias.copy_(torch.tensor([math.log(2) / 0.14, -math.log(4) / 0.14]))  # type: ignore[union-attr]

    outputs, shapes, _ = rpn._outputs(make_maps(levels))

    for level, output, shape, square in zip(
        levels, outputs, shapes, rpn.squares.of(list(make_maps(levels).values())), strict=True
    ):
        edge = 4.0 * 2**level
        sizes = output.references[0, :, 2:] - output.references[0, :, :2]
        torch.testing.assert_close(sizes, torch.tensor([[edge * 2, edge / 4]]).expand_as(sizes), rtol=1e-4, atol=0)
        middle = output.references[0, :, :2] + output.references[0, :, 2:]
        torch.testing.assert_close(middle, square[:, :2] + square[:, 2:], atol=1e-4, rtol=0)
        assert shape.requires_grad
        assert not output.references.requires_grad


def test_the_features_are_adapted_at_the_predicted_shape() -> None:
    """With offsets of zero the deformable convolution is a plain one; with others it is not."""
    levels = range(3, 4)
    rpn, maps = make_rpn(levels), make_maps(levels)
    x = torch.relu(rpn.conv(maps["p3"]))
    for layer in (rpn.shape, rpn.adaption, rpn.cls_logits):
        torch.nn.init.normal_(layer.weight, std=1.0)

    moved = rpn._layers(maps["p3"])[2]
    torch.nn.init.zeros_(rpn.offset.weight)
    still = rpn._layers(maps["p3"])[2]

    plain = torch.relu(torch.nn.functional.conv2d(x, rpn.adaption.weight, padding=1))
    torch.testing.assert_close(still, rpn.cls_logits(plain))
    assert (moved - still).abs().max() > 1e-4


@torch.inference_mode()
def test_only_places_that_are_likely_centres_propose() -> None:
    levels = range(3, 5)
    rpn, maps, batch = make_rpn(levels, proposals=1000), make_maps(levels), make_truth([[(0, 0, 9, 9)]])
    torch.nn.init.zeros_(rpn.location.weight)
    for score, proposes in ((0.011, True), (0.009, False)):
        torch.nn.init.constant_(rpn.location.bias, math.log(score / (1 - score)))  # type: ignore[arg-type]

        assert bool(rpn.propose(maps, batch).valid.any()) == proposes


def test_proposals_are_decoded_from_the_guided_anchors() -> None:
    levels = range(3, 4)
    rpn, maps, batch = make_rpn(levels, proposals=1), make_maps(levels), make_truth([[(0, 0, 9, 9)]])
    torch.nn.init.normal_(rpn.shape.weight, std=0.5)
    torch.nn.init.normal_(rpn.bbox_pred.weight, std=0.5)

    with torch.no_grad():
        proposals = rpn.propose(maps, batch)
        location, shape, logits, deltas = rpn._layers(maps["p3"])

    best = int(torch.where(location.flatten().sigmoid() >= 0.01, logits.flatten(), -math.inf).argmax())
    square = rpn.squares.of([maps["p3"]])[0][best]
    own = torch.cat((torch.zeros(2), shape.flatten(2)[0, :, best]))
    anchor = decode_boxes(own, square, SHAPE_WEIGHTS)
    box = decode_boxes(deltas.flatten(2)[0, :, best], anchor, BOX_WEIGHTS).clamp(0, CANVAS)
    torch.testing.assert_close(proposals.boxes[0, 0], box, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_losses_of_a_batch_are_the_mean_of_its_images(seed: int) -> None:
    levels = range(3, 5)
    batch = random_truth(seed)
    maps = make_maps(levels, len(batch))
    rpn = make_rpn(levels, samples=10_000)  # all candidates are looked at: nothing is left to chance

    together, _ = rpn.losses(maps, batch)
    alone = []
    for image in range(len(batch)):
        own = slice(image, image + 1)
        alone.append(rpn.losses({name: each[own] for name, each in maps.items()}, batch[own])[0])

    for name, loss in together.items():
        torch.testing.assert_close(loss, torch.stack([each[name] for each in alone]).mean(), rtol=1e-4, atol=1e-6)
        assert loss > 0
