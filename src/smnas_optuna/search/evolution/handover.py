"""The handover from stage 1 to stage 2: parents, the first generation of their searches, and shares of the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from smnas_optuna.arch import DetectorSpec, canonical, decode, encode
from smnas_optuna.arch.order import kinds_of
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.study.pareto import contributions, points_of, reference_point
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.seeds import derive_seed

FIRST_PER_PLACE = 3
"""Mutations of a parent that are prepared for each place in the first generation: pruned ones take no place."""


def choose_parents(
    front: Sequence[TrialRecord],
    count: int,
    chosen: Sequence[str] = (),
    promising: Callable[[Sequence[str]], str | None] | None = None,
) -> list[str]:
    """Return ``count`` structures of ``front``, ``chosen`` ones first; fewer if the front has fewer.

    ``promising`` chooses them, one after the other. Where it can say nothing from the start, they are spread along the
    front. It is cut into ``count`` bands of latency, equally wide on a logarithmic scale. Each band gives the member
    with the largest hypervolume contribution. A band without a member, or without one whose structure is new, is
    replaced by the member with the largest contribution among all that are left. Members that differ only in what
    stage 2 searches anyway are the same structure. A structure is taken twice only if there is nothing else. So the
    parents lie along the whole front, and no two searches have the same space.

    Args:
        front: Front of the structural study, fastest first.
        count: Number of parents in all.
        chosen: Architectures that are parents already.
        promising: Returns that of the given architectures around which there is most to win; None if nothing can be
            said.
    """
    contribution = dict(
        zip(
            (str(record.arch) for record in front), contributions(front, reference_point(points_of(front))), strict=True
        )
    )
    latencies = {str(record.arch): record.latency_ms or 0.0 for record in front}
    parents = list(chosen)
    taken = {structure_of(arch) for arch in parents}

    def take_best(archs: Collection[str]) -> None:
        new = [arch for arch in archs if structure_of(arch) not in taken]
        if new and len(parents) < count:
            best = max(new, key=lambda arch: contribution[arch])
            parents.append(best)
            taken.add(structure_of(best))

    found = len(parents)
    while promising is not None and len(parents) < count:
        new = [arch for arch in latencies if structure_of(arch) not in taken]
        best = promising(new) if new else None
        if best is None:
            break
        take_best([best])
    if not chosen and len(parents) == found:
        for band in _bands(latencies, count):
            take_best(band)
    for _ in range(count - len(parents)):
        take_best(latencies)
    names = set(map(canonical, parents))  # earlier versions may have chosen them under another spelling
    left = sorted((arch for arch in latencies if arch not in names), key=lambda arch: -contribution[arch])
    return [*parents, *left[: max(0, count - len(parents))]]


def structure_of(arch: str) -> tuple[object, ...]:
    """Return what stage 2 keeps of a structure: input size, kind of block, levels of the pyramid, RPN and head."""
    spec = decode(arch)
    return spec.input_size, *kinds_of(spec)


def first_generation(space: SearchSpace, parent: DetectorSpec, population: int, seed: int) -> list[DetectorSpec]:
    """Return ``parent`` itself and mutations of it, each a different architecture.

    A parent that stage 1 trained is known, so that its place goes to a mutation.
    """
    random = np.random.default_rng(derive_seed(seed, "first generation", encode(parent)))
    specs = [parent]
    genome = space.genome(specs[0])
    wanted = min(FIRST_PER_PLACE * population, space.size)
    for _ in range(20 * wanted):
        child = space.express(space.mutate(genome, random))
        if child not in specs:
            specs.append(child)
        if len(specs) == wanted:
            break
    return specs


def share_out(total: int, trained: Sequence[int], closed: Collection[int] = ()) -> list[int]:
    """Return the budget of each study: together ``total``, as equal as possible; the first ones get the rest.

    Args:
        total: Number of architectures to train in all.
        trained: Architectures that each study has trained already; none gets less.
        closed: Places of studies that get no more.
    """
    budgets = list(trained)
    open_places = [place for place in range(len(trained)) if place not in closed]
    for _ in range(total - sum(trained)):
        if open_places:
            budgets[min(open_places, key=lambda place: budgets[place])] += 1
    return budgets


def _bands(latencies: dict[str, float], count: int) -> list[list[str]]:
    """Return the architectures by band of latency, the fastest band first; bands are equally wide in its logarithm."""
    fastest, slowest = (math.log(end(latencies.values(), default=1.0)) for end in (min, max))
    bands: list[list[str]] = [[] for _ in range(count)]
    for arch, latency in latencies.items():
        share = (math.log(latency) - fastest) / ((slowest - fastest) or 1.0)
        bands[min(count - 1, int(share * count))].append(arch)
    return bands
