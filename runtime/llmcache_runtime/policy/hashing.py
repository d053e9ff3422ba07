"""Seeded 64-bit hashes and rendezvous hashing: what lets replicas agree without talking."""

from collections.abc import Iterable, Sequence

from xxhash import xxh3_64_intdigest

CHUNK_BYTES = 256
"""A chunk is about 64 tokens: two or four of vLLM's blocks."""


def chain(text: bytes, seed: int) -> tuple[int, ...]:
    """Hash each full chunk of `text` together with everything before it."""
    hashes = []
    for start in range(0, len(text) - CHUNK_BYTES + 1, CHUNK_BYTES):
        seed = xxh3_64_intdigest(text[start : start + CHUNK_BYTES], seed)
        hashes.append(seed)
    return tuple(hashes)


def digest(data: bytes, seed: int = 0) -> int:
    """Hash bytes to 64 bits."""
    return xxh3_64_intdigest(data, seed)


def preference(seed: int, engines: Iterable[str]) -> Sequence[str]:
    """Order engines by rendezvous hashing, the winner first: losing an engine never changes the order of the others."""
    return sorted(engines, key=lambda engine: (xxh3_64_intdigest(engine.encode(), seed), engine), reverse=True)
