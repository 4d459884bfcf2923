"""Valid study files, and ways to spoil them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

from ..conftest import TINY_STUDY

ARCH = "64x64.resnet18-w8.fpn-p2-p5-c16.rpn.fc-w32"
EVERY_KEY = f"""
[data]
train = "a.json"
val = "b.json"
test = "c.json"
images = "images"
val_images = "val"
test_images = "test"
val_fraction = 0.2
drop_empty_boxes = true
[space.structural]
input_sizes = ["64x48", "64x64"]
backbones = ["resnet18", "mobilenet_v2"]
backbone_widths = [8, 16]
necks = ["c4", "fpn"]
neck_min_levels = [2, 3]
neck_max_levels = [5, 7]
neck_channels = [16, 32]
neck_extras = ["pool", "conv_p5"]
rpns = ["rpn", "ga"]
heads = ["retina", "fc", "cascade3"]
head_widths = [32, 64]
[space.modular]
base_channels = [8, 16]
stems = ["conv3", "conv7"]
min_blocks = 5
max_blocks = 9
vary_input_size = true
[search]
trials = 5
population = 4
seed = 7
baselines = ["{ARCH}"]
max_seconds_per_trial = 60
max_latency_ms = 30.5
max_params = 1_000_000
ap_spread = 0.01
rungs = [1, 2]
rung_margin = 0.5
keep_weights = "all"
[modular]
parents = 2
trials = 4
[detector]
anchor_scale = 4
train_proposals = 50
score_threshold = 0.05
nms_iou = 0.5
max_detections = 100
norm = "bn"
[train]
epochs = 4
batch_size = 8
optimizer = "sgd"
learning_rate = 0.01
weight_decay = 1e-4
warmup = 0.1
clip_norm = 10
flip = 0.5
scale_jitter = [0.9, 1.1]
[latency]
reference = "{ARCH}"
images = 4
precision = 0.1
max_seconds = 1
noise = 0.04
runtime = "eager"
"""
VALID = (
    TINY_STUDY,
    EVERY_KEY,
    *(path.read_text() for path in sorted((Path(__file__).parents[2] / "studies").glob("*/study.toml"))),
)

NUMBERS = (
    *("0", "-1", "1", "-0.0", "+1", "0.5", "1e-320", "5e-324", "1e308", "1e20", "-1e20", "nan", "inf", "-inf"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e999", "1_0", "0x10", "0o17", "0b1"),
    *("9" * 400, "9" * 5000, "0x" + "f" * 9000, "0." + "0" * 5000 + "1", "1e" + "9" * 5000),
)
TEXTS = (
    *('""', '"x"', "''", '"' + "x" * 100_000 + '"', '"a\\u0000b"', '"\\u001b[2J"', '"a\\n  fix: run this"'),
    *('"../../etc/passwd"', '"/dev/zero"', '"\\U0001F600"', '"قطة"', "'''a\nb'''", '"\\uD800"', '"64x64.c4"'),
    *(f'"{ARCH}.fc"', f'"{ARCH}-w32"', f'"{ARCH.replace("8", "9" * 5000)}"', '"' + "1-" * 50_000 + '"'),
)
NESTED = (
    *(
        "[]",
        "[[]]",
        "[1]",
        '["x", 1]',
        "{}",
        "{a = 1}",
        "[{}]",
        "true",
        "1979-05-27",
        "1979-05-27T07:32:00Z",
        "07:32:00",
    ),
    *("[" * 100 + "]" * 100, "[" * 100_000 + "]" * 100_000, "{a=" * 5000 + "1" + "}" * 5000, str([1.5] * 5000)),
    *(
        str([8] * 3000),
        str([*range(4, 4000)]),
        str(["64x64"] * 2000),
        "[1, 2,, 3]",
        "[1 2]",
        "[",
        "1979-05-27T07:32:00Z",
    ),
)
KEYS = ("x", "epochs", "a.b", '"quoted key"', '"\\n"', "x" * 100_000, "a." * 390 + "a", "a." * 20_000 + "a", '""', "é")
LETTERS = "[]{}=\"'#.,\n\r\t \0\x1b\\-+_eE019aé\u202e\ufeff"

Mutation = Callable[[str, random.Random], str]


def spoiled(rng: random.Random) -> bytes:
    """A valid file after one to four mutations; the last one may change its bytes."""
    text = rng.choice(VALID)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = rng.choice(MUTATIONS)(text, rng)
    content = text.encode("utf-8", errors="surrogatepass")
    return rng.choice(BYTES)(content, rng) if rng.random() < 0.1 else content


def _lines_with(text: str, pattern: str) -> list[int]:
    return [number for number, line in enumerate(text.split("\n")) if re.match(pattern, line)] or [0]


def _change_line(text: str, number: int, change: Callable[[str], str]) -> str:
    lines = text.split("\n")
    lines[number] = change(lines[number])
    return "\n".join(lines)


def _set_value(text: str, rng: random.Random) -> str:
    value = rng.choice(rng.choice((NUMBERS, TEXTS, NESTED)))
    number = rng.choice(_lines_with(text, r"\w+ *="))
    return _change_line(text, number, lambda line: f"{line.partition('=')[0]}= {value}")


def _set_number(text: str, rng: random.Random) -> str:
    """Change a number somewhere, also inside a list or a string."""
    found = list(re.finditer(r"\d+(\.\d+)?", text))
    if not found:
        return text
    place = rng.choice(found)
    return text[: place.start()] + rng.choice(NUMBERS) + text[place.end() :]


def _rename_key(text: str, rng: random.Random) -> str:
    number = rng.choice(_lines_with(text, r"\w+ *="))
    return _change_line(text, number, lambda line: f"{rng.choice(KEYS)} ={line.partition('=')[2]}")


def _rename_table(text: str, rng: random.Random) -> str:
    name = rng.choice((*KEYS, "search", "space", "data.shapes", "space.structural"))
    number = rng.choice(_lines_with(text, r"\["))
    return _change_line(text, number, lambda _: rng.choice((f"[{name}]", f"[[{name}]]", f"[{name}")))


def _drop_line(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def _repeat_line(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    line = rng.choice(lines)
    lines[rng.randrange(len(lines)) : 0] = [line] * rng.choice((1, 1, 500))
    return "\n".join(lines)


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _insert_letters(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + "".join(rng.choices(LETTERS, k=rng.choice((1, 1, 3, 50)))) + text[place:]


def _drop_letters(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + text[place + rng.choice((1, 1, 5, 50)) :]


def _join(text: str, rng: random.Random) -> str:
    return text + rng.choice(VALID)


MUTATIONS: tuple[Mutation, ...] = (
    *(_set_value, _set_value, _set_value, _set_number, _set_number, _rename_key, _rename_table, _drop_line),
    *(_repeat_line, _cut, _insert_letters, _drop_letters, _join),
)
BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda content, _: b"\xef\xbb\xbf" + content,
    lambda content, _: content.decode("utf-8", errors="replace").encode("utf-16"),
    lambda content, _: content.decode("utf-8", errors="replace").encode("utf-16-le"),
    lambda content, rng: content[: rng.randrange(len(content) + 1)] + bytes([rng.randrange(256)]) + content,
    lambda _, rng: rng.randbytes(rng.choice((0, 1, 100, 10_000))),
    lambda content, rng: content * rng.choice((2, 500)),
)
