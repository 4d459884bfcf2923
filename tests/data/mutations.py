"""A correct COCO file, spoiled: ``MUTATIONS`` by name, each a function of the document and of random numbers."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

Document = dict[str, Any]
Mutation = Callable[[Document, random.Random], bytes]

TEXTS = {
    "empty": "",
    "a megabyte": "x" * 2**20,
    "a megabyte of what must be escaped": "\x1b" * 2**20,
    "NUL": "a\0b.png",
    "lone surrogate": "\ud800",
    "right to left": "\u202egnp.a",
    "Arabic": "قطة",
    "emoji": "👩‍🚒" * 9,
    "line breaks": "a\n  fix: run this\r\u2028\u0085b",
    "terminal codes": "\x1b]0;title\x07\x1b[31mred\x9b2J",
    "HTML": "<img src=x onerror=alert(1)>&amp;",
    "console markup": "[bold][/nothing]",
    "path upwards": "../../etc/passwd",
    "a number": "7",
}
VALUES: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True, False],
    "not finite": [math.nan, math.inf, -math.inf],
    "huge": [1e308, 10**400, 2**63, 2**63 - 1, 10**4299],
    "negative": [-1, -1.5, -0.0, -(2**63), -(10**400)],
    "small": [0, 1e-320, 5e-324, 1e-9, 0.5],
    "list": [[], [[]], [1, 2, 3, 4], [None] * 4, [[[[0] * 9] * 9] * 9] * 9],
    "object": [{}, {"id": 1}, {"": {"": {}}}, {str(n): {str(m): "y" * 99 for m in range(99)} for n in range(99)}],
}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or position) in ``value``, at any depth."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from places(inner)


def _set_somewhere(choices: list[Any]) -> Mutation:
    def mutate(document: Document, rng: random.Random) -> bytes:
        container, key = rng.choice(list(places(document)))
        container[key] = copy.deepcopy(rng.choice(choices))
        return json.dumps(document).encode()

    return mutate


def _drop(document: Document, rng: random.Random) -> bytes:
    container, key = rng.choice(list(places(document)))
    del container[key]
    return json.dumps(document).encode()


def _pile_up(document: Document, rng: random.Random) -> bytes:
    for _ in range(rng.randint(2, 6)):
        name = rng.choice(list(VALUES))
        _set_somewhere(VALUES[name])(document, rng)
    return json.dumps(document).encode()


def _text_for_a_name(document: Document, rng: random.Random) -> bytes:
    row, field = rng.choice([*((row, "name") for row in document["categories"]), (document["images"][0], "file_name")])
    row[field] = rng.choice(list(TEXTS.values()))
    return json.dumps(document).encode()


def _raw_text_for_a_name(document: Document, rng: random.Random) -> bytes:
    document["categories"][0]["name"] = rng.choice(list(TEXTS.values()))
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _entangle_ids(document: Document, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        row = rng.choice([row for table in document.values() for row in table])
        row[rng.choice([field for field in row if field.endswith("id")])] = rng.choice((3, 7, 9, 11, 86, 87))
    return json.dumps(document).encode()


def _repeat_rows(document: Document, rng: random.Random) -> bytes:
    table = rng.choice(list(document.values()))
    table += [dict(rng.choice(table)) for _ in range(rng.randint(1, 500))]
    return json.dumps(document).encode()


def _spoil_the_box(document: Document, rng: random.Random) -> bytes:
    numbers = [*VALUES["not finite"], *VALUES["huge"], *VALUES["negative"], *VALUES["small"], 60, 40, 59.999999, "5"]
    for row in document["annotations"]:
        row["bbox"] = [rng.choice((*numbers, rng.uniform(-50, 100))) for _ in range(rng.choice((4, 4, 4, 3, 5)))]
    return json.dumps(document).encode()


def _spoil_the_size(document: Document, rng: random.Random) -> bytes:
    edges = [*VALUES["huge"], *VALUES["negative"], *VALUES["small"], 2**20, 2**31, 2**53, 60.5, "60", math.nan]
    document["images"][0][rng.choice(("width", "height"))] = rng.choice(edges)
    return json.dumps(document).encode()


def _repeat_keys(document: Document, rng: random.Random) -> bytes:
    key = rng.choice(["images", "annotations", "categories"])
    other = rng.choice(
        ["[]", "{}", "null", json.dumps(document[key][:1]), f'[{{"id": 1, "id": {rng.randint(0, 99)}}}]']
    )
    text = json.dumps(document)
    text = rng.choice([f'{{"{key}": {other}, {text[1:]}', f'{text[:-1]}, "{key}": {other}}}'])
    return text.encode()


def _truncate(document: Document, rng: random.Random) -> bytes:
    text = json.dumps(document).encode()
    return text[: rng.randrange(len(text))]


def _flip_bytes(document: Document, rng: random.Random) -> bytes:
    text = bytearray(json.dumps(document).encode())
    for _ in range(rng.randint(1, 8)):
        text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
    return bytes(text)


def _splice(document: Document, rng: random.Random) -> bytes:
    text = json.dumps(document).encode()
    start, end, to = (rng.randrange(len(text)) for _ in range(3))
    return text[:to] + text[min(start, end) : max(start, end)] + text[to:]


def _insert(*pieces: bytes) -> Mutation:
    def mutate(document: Document, rng: random.Random) -> bytes:
        text = json.dumps(document).encode()
        at = rng.choice([position for position, byte in enumerate(text) if byte in b":,[]{}"]) + 1
        return text[:at] + rng.choice(pieces) + text[at:]

    return mutate


def _encode(document: Document, rng: random.Random) -> bytes:
    document["categories"][0]["name"] = "Kätzchen 🐈"
    text = json.dumps(document, ensure_ascii=False)
    encoding = rng.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp1252", "utf-7"])
    return text.encode(encoding, "replace")


def _something_else(document: Document, rng: random.Random) -> bytes:
    text = json.dumps(document).encode()
    return rng.choice(
        [b"", b" \n", b"\0" * 99, text + text, text + b"\0", b"null", b"NaN", b"[" + text + b"]", b'"', b"1"]
    )


MUTATIONS: dict[str, Mutation] = {
    "drop": _drop,
    **{f"{name} somewhere": _set_somewhere(values) for name, values in VALUES.items()},
    "text somewhere": _set_somewhere(list(TEXTS.values())),
    "pile up": _pile_up,
    "text for a name": _text_for_a_name,
    "raw text for a name": _raw_text_for_a_name,
    "entangle ids": _entangle_ids,
    "repeat rows": _repeat_rows,
    "spoil the box": _spoil_the_box,
    "spoil the size": _spoil_the_size,
    "repeat keys": _repeat_keys,
    "truncate": _truncate,
    "flip bytes": _flip_bytes,
    "splice": _splice,
    "nest": _insert(b"[" * 100_000, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900 + b",", b'[{"id":' * 50_000),
    "many digits": _insert(
        b"9" * 5_000, b"9" * 5_000 + b".5", b"1e99999", b"-" + b"1" * 4_300, b"0." + b"0" * 9_999 + b"1"
    ),
    "encode": _encode,
    "something else": _something_else,
}


def mutate(document: Document, name: str, seed: int) -> bytes:
    """The bytes of a file that ``name`` makes of ``document``, which stays as it is."""
    return MUTATIONS[name](copy.deepcopy(document), random.Random(f"{name} {seed}"))
