"""The table of trained architectures that samplers are replayed on, and its hypervolume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_table_file import last_ap, parent_of, read_rows, space_of

from smnas_optuna.config import SearchSettings, load_settings
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.study.pareto import hypervolume, reference_point
from smnas_optuna.verify.statistics import pooled_spread

PERCENTS = (5, 10, 20, 30, 40)
"""Parts of the table's number of architectures, in %, after which a search is looked at. It ends after the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Results of one architecture: AP in [0, 1]; latencies are ratios to the reference detector."""

    gate_ratio: float
    latency_ratio: float
    ap: float

    @property
    def point(self) -> tuple[float, float]:
        """Both objectives: (latency ratio, AP)."""
        return self.latency_ratio, self.ap


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Every architecture of a space, trained.

    Attributes:
        space: The space that is searched; it holds more architectures than ``rows`` if the table is not complete.
        rows: Architecture -> results of its training with seed 0.
        repeated: Architecture -> APs over seeds, of those that were trained with several.
        ap_spread: Standard deviation of AP over seeds; None if nothing was repeated.
    """

    space: SearchSpace
    rows: Mapping[str, Row]
    repeated: Mapping[str, Sequence[float]]
    ap_spread: float | None

    @property
    def margin(self) -> float:
        """Difference of AP beyond which one is called higher; the package's default without an ``ap_spread``."""
        return SearchSettings().ap_spread if self.ap_spread is None else self.ap_spread

    @property
    def reference(self) -> tuple[float, float]:
        """Reference point of hypervolumes: a tenth slower than the slowest, and an AP of 0."""
        return reference_point((row.latency_ratio, row.ap) for row in self.rows.values())

    @property
    def front(self) -> set[str]:
        """The architectures that no other one dominates."""
        points = {arch: row.point for arch, row in self.rows.items()}
        return {arch for arch, point in points.items() if not any(_dominates(p, point) for p in points.values())}

    @property
    def budget(self) -> int:
        """Trainings of a whole run."""
        return self.num_trainings(PERCENTS[-1])

    def num_trainings(self, percent: float) -> int:
        """Trainings that are ``percent`` of the number of architectures."""
        return round(len(self.rows) * percent / 100)

    def share(self, archs: Sequence[str]) -> float:
        """Hypervolume of ``archs``, a share in [0, 1] of that of all architectures."""
        whole = hypervolume([row.point for row in self.rows.values()], self.reference)
        return hypervolume([self.rows[arch].point for arch in archs], self.reference) / whole


def read_table(path: Path) -> Table:
    """The table at ``path``; an incomplete line is left out.

    Its space is that of the ``study.toml`` beside it: the structural one, or the modular one around the ``parent`` that
    ``table.json`` names.
    """
    rows: dict[str, Row] = {}
    aps: dict[str, dict[str, float]] = {}  # by seed: two processes that meet may both have trained one
    for line in read_rows(path):
        aps.setdefault(line["arch"], {})[line["seed"]] = last_ap(line)
        if line["seed"] == "0":
            rows[line["arch"]] = Row(
                gate_ratio=float(line["gate_ratio"]),
                latency_ratio=float(line["latency_ratio"]),
                ap=last_ap(line),
            )
    repeated = {arch: list(by_seed.values()) for arch, by_seed in aps.items() if len(by_seed) > 1}
    return Table(
        space=space_of(load_settings(path.parent), parent_of(path.parent)),
        rows=rows,
        repeated=repeated,
        ap_spread=spread_over_seeds(repeated.values()),
    )


def spread_over_seeds(groups: Iterable[Sequence[float]]) -> float | None:
    """Standard deviation within ``groups``, pooled by their degrees of freedom; None if no group has two values."""
    spread = pooled_spread(groups)
    return None if spread is None else spread.deviation


def describe_missing(table: Table) -> str:
    """Trainings that the table lacks, for people; empty if it is complete."""
    missing = table.space.size - len(table.rows)
    if missing:
        return f"{missing} of {table.space.size} architectures are not trained yet"
    return "" if table.repeated else "no architecture is trained with a second seed yet"


def _dominates(point: tuple[float, float], other: tuple[float, float]) -> bool:
    return point[0] <= other[0] and point[1] >= other[1] and point != other
