"""The paper's claim, tried: half of the latency of Faster R-CNN R50-FPN, or less, with at least one AP more.

    python benchmarks/claim.py --data NAME=DIR [NAME=DIR ...] [--hours H] [--seeds 3] [--studies studies]
        [--work DIR] [--output benchmarks/claim.json]

For each data set the settings are those of ``studies/NAME_claim/study.toml``, whose first baseline the claim is about.

1. ``smnas structural``; ``smnas verify`` of its front; ``smnas modular``; ``smnas verify`` of the joint front.
2. Random search with as many trainings and the same baselines: the same loop whose first generation, drawn at random,
   never ends, without surrogate and pruning, in the space of stage 1; ``smnas verify`` of its front. The retrained
   baselines are taken over.
3. All that was retrained is timed in one run, in the runtime that ships, in alternation with the first baseline.

All are trained from scratch, with one recipe and schedule. A detector is chosen by the validation images, and judged by
the test images. ``--output`` gets all numbers, and a file beside it the picture; both, and the table, are made again
whenever a data set is finished. The studies and ``log.txt`` lie in ``--work``.

It can be stopped at any time, also by ``kill -9``: the same command goes on. ``--hours`` ends it by itself.

On 2 cores of an AMD EPYC bccd took about 3 hours beside other work; chess and deeppcb should take about 4, which is
computed from single training steps (benchmarks/README.md), and not run. A tiny study of 12 trainings took 6 minutes on
busy cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claimed.answer import Retrained, answer_of, contributions_of, further_seeds, retrained_of
from claimed.latencies import time_together
from claimed.picture import draw, save
from claimed.processes import FailedError, PausedError, Pieces
from common import begin_like, command_line, markdown_table

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import STUDY_FILE, StudySettings, load_settings
from smnas_optuna.engine.device import library_versions
from smnas_optuna.engine.durable import write_durably, write_json
from smnas_optuna.errors import SmnasError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.verify.results import read_results
from smnas_optuna.verify.verification import RESULTS_FILE

TOP = 4
"""Members of a front that are retrained, those that add most hypervolume; of that of random search twice as many."""
SEED = 0
"""Seed of the searches."""
BUSY = "*: other work disturbed the measurement; to measure again, remove `latencies` from NAME/done.json in --work"
HEADS = ("architecture", "ms", "ratio", "seeds", "validation", "test", "other images", "a further seed", "found by")


def main() -> None:
    """Do what is missing, and print the answers."""
    parser = command_line(__doc__)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DIR", type=_named)
    parser.add_argument("--hours", type=float, default=math.inf, help="end after so long; the same command goes on")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each detector that is judged")
    parser.add_argument("--studies", type=Path, default=Path("studies"), help="folder of the folders NAME_claim")
    parser.add_argument("--work", type=Path, default=Path("studies/.claim"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/claim.json"))
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error("--seeds: 1 training of a detector is the least")
    deadline = time.monotonic() + 3600 * arguments.hours
    sets = {name: _checked(parser, arguments, name, data) for name, data in arguments.data}
    try:
        for name, data in arguments.data:
            pieces = Pieces(folder=arguments.work / name, deadline=deadline)
            try_one(pieces, sets[name], data, arguments.seeds)
            report(arguments.work, sets, arguments.output, arguments.seeds)
    except PausedError as paused:
        sys.exit(f"{paused}; run the same command to resume")
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command to resume")
    except FailedError as failed:
        sys.exit(f"error: {failed}")
    except SmnasError as error:
        sys.exit(f"error: {error}")


def try_one(pieces: Pieces, study: Path, data: Path, seeds: int) -> None:
    """Do all that is missing for one data set.

    Raises:
        PausedError: If the hours are over, or a command was interrupted.
        FailedError: If a command fails.
    """
    settings = load_settings(study)
    ours, random = pieces.folder / "ours", pieces.folder / "random"
    pieces.folder.mkdir(parents=True, exist_ok=True)
    begin_like(study, ours, SEED)
    begin_like(study, random, SEED, by_chance=True)
    where = ["--data", str(data.resolve())]
    retrain = ["--seeds", str(seeds), "--epochs", str(settings.for_modular().train.epochs), *where]
    budget = settings.search.trials + settings.modular.trials

    def first_stage() -> None:
        pieces.smnas("structural", ours, *where)
        check_classic(StudyFolder(ours), _classic(settings))

    def verify(folder: Path, way: str, top: int) -> None:
        pieces.smnas("verify", folder, "--top", str(top), *retrain)
        check_complete(folder, json.loads((folder / "report" / "verify.json").read_text()), seeds)
        shutil.copy(folder / "report" / "verify.json", pieces.folder / f"{way}.json")

    def take_over() -> None:
        (random / "verify").mkdir(exist_ok=True)
        shutil.copy(ours / "verify" / RESULTS_FILE, random / "verify" / RESULTS_FILE)

    def measure() -> None:
        verified = verified_in(pieces.folder)
        archs = dict.fromkeys(each["arch"] for found in verified.values() for each in found["architectures"])
        check_classic(StudyFolder(ours), _classic(settings), retrained=True)
        order = [_classic(settings), *(arch for arch in archs if arch != _classic(settings))]
        timed = time_together([ours, random], data, order, pieces.say)
        write_json(pieces.folder / "latencies.json", {**timed, "versions": library_versions()})

    pieces.do("stage 1", first_stage)
    pieces.do("stage 1 retrained", lambda: verify(ours, "stage 1", TOP))
    pieces.do("stage 2", lambda: pieces.smnas("modular", ours, *where))
    pieces.do("both stages retrained", lambda: verify(ours, "both stages", TOP))
    chance = ["--trials", str(budget), "--no-pruning", *where]
    pieces.do("random search", lambda: pieces.smnas("structural", random, *chance))
    pieces.do("baselines taken over", take_over)
    pieces.do("random search retrained", lambda: verify(random, "random search", 2 * TOP))
    pieces.do("latencies", measure)


def check_classic(folder: StudyFolder, classic: str, *, retrained: bool = False) -> None:
    """Check that the first baseline is trained, and ``retrained`` with one seed at least.

    Raises:
        FailedError: If it is not.
    """
    if retrained:
        results = read_results(folder.verify / RESULTS_FILE)
        there = results is not None and any(run.arch == classic and run.ap is not None for run in results.runs.values())
    else:
        there = any(record.arch == classic and record.trained for record in folder.records())
    if not there:
        raise FailedError(
            f"{folder.path}: the first baseline, {classic}, has no finished training, and the claim is about it\n"
            "  fix: look into the log; another recipe or a higher max_seconds_per_trial needs another --work"
        )


def check_complete(study: Path, verified: Mapping[str, Any], seeds: int) -> None:
    """Check that a verification trained each of its architectures with as many seeds; diverged trainings count.

    Raises:
        FailedError: If one is missing, as where memory was not enough.
    """
    counts = Counter(run["arch"] for run in verified["runs"])
    short = [each["arch"] for each in verified["architectures"] if counts[each["arch"]] < seeds]
    if short:
        raise FailedError(
            f"{study}: fewer than {seeds} trainings of {', '.join(short)}\n"
            "  fix: the log says why; with more memory, or fewer workers, the same command goes on"
        )


def verified_in(folder: Path) -> dict[str, Any]:
    """Return what each verification wrote, by way; only the finished ones."""
    ways = ("stage 1", "both stages", "random search")
    files = {way: folder / f"{way}.json" for way in ways}
    return {way: json.loads(file.read_text()) for way, file in files.items() if file.is_file()}


def report(work: Path, sets: Mapping[str, Path], output: Path, seeds: int) -> None:
    """Write the numbers and the picture of all finished data sets, and print their tables."""
    stored = json.loads(output.read_text())["results"] if output.is_file() else {}
    for name, study in sets.items():
        file = work / name / "latencies.json"
        if file.is_file():
            content = hashlib.sha256((study / STUDY_FILE).read_bytes()).hexdigest()
            about = {"study_sha256": content, "classic": _classic(load_settings(study)), "seeds": seeds}
            stored[name] = {**about, **json.loads(file.read_text()), "verified": verified_in(work / name)}
    write_json(output, {"results": stored})
    seen = {name: (found["classic"], retrained_of(found)) for name, found in stored.items()}
    save(draw(seen), output.with_suffix(".png"))
    for name, found in stored.items():
        print(f"\n{name}\n\n{tables(found)}", flush=True)


def tables(found: Mapping[str, Any]) -> str:
    """Return the answer for a data set, the table of its detectors, and what the search contributes, in Markdown."""
    retrained = retrained_of(found)
    answer, further = answer_of(retrained, found["classic"]), further_seeds(retrained, found["classic"])
    rows = [
        (
            f"`{each.arch}`",
            f"{each.ms:.2f}",
            f"{each.ratio:.3f} ({each.ratio_low:.3f}..{each.ratio_high:.3f}){'' if each.alone else ' *'}",
            _seeds(each),
            f"{100 * each.val:.1f}",
            f"{100 * each.test:.1f}",
            _ends(each.test_interval),
            _ends(further.get(each.arch)),
            "a baseline" if each.baseline else ", ".join(each.ways),
        )
        for each in retrained
    ]
    lines = [markdown_table(HEADS, rows), ""]
    if not all(each.alone for each in retrained):
        lines += [BUSY, ""]
    if answer is None:
        return "\n".join([*lines, "no answer: no training of the first baseline is finished"])
    lines.append(f"the claim: {answer.verdict}")
    if answer.best is not None:
        difference, margin = 100 * answer.difference, 100 * answer.margin
        lines.append(
            f"`{answer.best.arch}` takes {answer.best.ratio:.2f} of the latency of `{answer.classic.arch}`; judged by "
            f"trainings that did not choose it, the choice has {difference:+.1f} AP (± {margin:.1f}, 95 %, by the "
            "spread over seeds alone)"
        )
    ways = [
        (way, f"{volume:.4f}", f"{100 * best:.1f}", "-" if fast is None else f"{100 * fast:.1f}")
        for way, volume, best, fast in contributions_of(retrained)
    ]
    heads = ("found by", "hypervolume", "best AP", "best AP within half of the latency")
    return "\n".join([*lines, "", markdown_table(heads, ways)])


def _seeds(each: Retrained) -> str:
    return f"{len(each.test_aps)}" + (f", {each.failed} diverged" if each.failed else "")


def _ends(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{100 * interval[0]:.1f}..{100 * interval[1]:.1f}"


def _named(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not sign or not name.isidentifier() or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DIR")
    return name, Path(folder).expanduser()


def _classic(settings: StudySettings) -> str:
    return encode(decode(settings.search.baselines[0]))


def _checked(parser: argparse.ArgumentParser, arguments: argparse.Namespace, name: str, data: Path) -> Path:
    """Return the folder of the study file of a data set; exits if something is missing or has changed."""
    study = Path(arguments.studies / f"{name}_claim")
    try:
        settings = load_settings(study)
    except SmnasError as error:
        parser.error(str(error))
    if not settings.search.baselines:
        parser.error(f"{study}: no baseline is named, and the claim is about the first one")
    if settings.data.test is None:
        parser.error(f"{study}: no test images are named, and detectors are judged by them: [data] test")
    if not data.is_dir():
        parser.error(f"--data {name}={data}: there is no such folder")
    folder = arguments.work / name
    folder.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256((study / STUDY_FILE).read_bytes()).hexdigest()
    for what, file, value in (
        ("study.toml", folder / "study.sha256", content),
        ("--seeds", folder / "seeds", str(arguments.seeds)),
    ):
        if file.is_file() and file.read_text() != value:
            parser.error(f"{folder}: was begun with another {what}: move it away, or name another --work")
        write_durably(file, value.encode())
    return study


if __name__ == "__main__":
    main()
