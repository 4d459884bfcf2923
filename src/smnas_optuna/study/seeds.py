"""Seeds that depend on their purpose and on nothing else."""

from __future__ import annotations

from hashlib import blake2b


def derive_seed(*parts: int | str) -> int:
    """Return a seed in 0 .. 2**32 - 1. Equal ``parts`` give equal seeds, in every process and on every machine."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=4).digest())
