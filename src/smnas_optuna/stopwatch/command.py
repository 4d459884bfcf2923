"""The command line of the stopwatch, made of the standard library alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, get_args

from smnas_optuna.allowance import usable_cores
from smnas_optuna.errors import SmnasError, printable
from smnas_optuna.paths import at_home
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import Runtime
from smnas_optuna.runtime.parts import parts_in_words
from smnas_optuna.stopwatch.arguments import Parser
from smnas_optuna.stopwatch.images import MAX_IMAGES, image_paths, read_images
from smnas_optuna.stopwatch.measure import (
    MAX_SECONDS,
    MAX_THREADS,
    Conditions,
    as_json,
    measure_files,
)
from smnas_optuna.stopwatch.serve_command import serve, serve_parser
from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH

PROGRAM = "python -m smnas_optuna.stopwatch"
FAILED, INTERRUPTED = 1, 130
_REFRESH_S = 0.5


def main(arguments: Sequence[str], program: str = PROGRAM) -> int:
    """Run the command and return its exit status; a mistake is one message on standard error.

    Args:
        arguments: Without the program's name.
        program: The program's name, for its help.
    """
    try:
        if list(arguments[:1]) == ["serve"]:
            serve(serve_parser(f"{program} serve").parse_args(arguments[1:]))
        else:
            _time(_parser(program).parse_args(arguments))
        sys.stdout.flush()  # here an error can still be told
    except SmnasError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("main memory is used up\n  fix: close other programs, or take fewer images")
    except OSError as error:
        return _fail(f"{quote_error(error)}\n  fix: look at the file or the disk that it names")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=program,
        description="Time one exported detector against another on this machine, in alternation. It needs no torch.",
        epilog=f"`{program} serve` times detectors for a search on another machine.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the exported detector that is timed")
    parser.add_argument("reference", metavar="REFERENCE", type=Path, help="the one that it takes turns with")
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        required=True,
        help=f"folder of images; up to {MAX_IMAGES} are used, each at the input size of the detector",
    )
    parser.add_argument("--runtime", choices=get_args(Runtime), default="onnxruntime", help="what executes both files")
    parser.add_argument(
        "--threads", metavar="N", type=_threads, default=usable_cores(), help="CPU threads; all cores by default"
    )
    parser.add_argument(
        "--max-seconds", metavar="S", type=_seconds, default=20.0, help="time limit of a measurement; 20 by default"
    )
    parser.add_argument("--json", action="store_true", help="print everything that is known as JSON")
    return parser


def _time(options: argparse.Namespace) -> None:
    file, reference = (DetectorFile.read(at_home(path)) for path in (options.file, options.reference))
    conditions = Conditions(
        runtime=options.runtime, num_threads=options.threads, max_seconds=options.max_seconds, parts=True
    )
    paths = image_paths(at_home(options.images))
    images = read_images(paths, file.description.grey_bits)
    with Progress(sys.stderr, f"timing, for about {options.max_seconds:g} s") as progress:
        stats = measure_files(file, reference, images, conditions, on_repeat=progress.again, on_step=progress.step)
    result = as_json(stats, file, reference, conditions, num_images=len(paths))
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else _in_words(result))


def _in_words(result: dict[str, Any]) -> str:
    threads = result["conditions"]["num_threads"]
    lines = [
        f"{result['arch']}: {result['p10_ms']:.3g} ms",
        f"reference {result['reference']}: {result['reference_p10_ms']:.3g} ms",
        f"ratio {result['ratio']:.3f} (95 % interval {result['ratio_low']:.3f} to {result['ratio_high']:.3f})",
        f"{result['num_runs']} runs of each on {result['images']} images, {result['runtime']}, "
        f"{threads} {'thread' if threads == 1 else 'threads'}, {result['device']['processor']}",
    ]
    if result["parts"] is not None:
        lines.append(parts_in_words(result["parts"]))
    if result["ratio_high"] - result["ratio_low"] > ACCEPTABLE_WIDTH * result["ratio"]:
        lines.append(
            f"note: the interval is wider than {100 * ACCEPTABLE_WIDTH:.0f} %: something else works on this machine, "
            "or --max-seconds is too short"
        )
    elif not result["warm"]:
        lines.append("note: the times still changed when timing began; give more time to warm up with --max-seconds")
    return printable("\n".join(lines)) + "\n"


class Progress:
    """A line that tells how long something takes, on a terminal; nothing elsewhere.

    Args:
        stream: Where the line goes.
        what: What takes the time.
        now: Returns the time, seconds.
    """

    def __init__(self, stream: TextIO, what: str, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._what, self._now = stream, what, now
        self._start = self._last = now()
        self._shown = stream.isatty()

    def __enter__(self) -> Progress:
        self._print()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._write("\r\x1b[K")

    def step(self) -> None:
        """Show the time that has passed."""
        if self._shown and self._now() - self._last >= _REFRESH_S:
            self._print()

    def again(self) -> None:
        """Tell that the measurement is repeated."""
        self._what = "timing again, as the interval was wide"

    def _print(self) -> None:
        if self._shown:
            self._last = self._now()
            self._write(f"\r\x1b[K{self._what}: {self._last - self._start:.0f} s")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # nobody reads it
            self._stream.write(text)
            self._stream.flush()


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MAX_THREADS):
        raise argparse.ArgumentTypeError(f"it must be a whole number in 1..{MAX_THREADS}, but is {text[:40]!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.001 <= seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"it must be seconds in 0.001..{MAX_SECONDS:g}, but is {text[:40]!r}")
    return seconds


def _fail(message: str) -> int:
    with suppress(OSError):  # nobody reads it
        sys.stderr.write(f"error: {message}\n")
    return FAILED
