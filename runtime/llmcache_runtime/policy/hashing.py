"""Seeded 64-bit hashes and rendezvous hashing: what lets replicas agree without talking."""

from collections.abc import Iterable, Sequence

from xxhash import xxh3_64_intdigest

CHUNK_BYTES = 512
"""A chunk is about 128 tokens: half of one of LMCache's."""

digest = xxh3_64_intdigest
"""Hash bytes to 64 bits, with a seed if one is given."""


def chain(text: bytes, seed: int) -> tuple[int, ...]:
    """Hash each full chunk of `text` together with everything before it."""
    hashes = []
    for start in range(0, len(text) - CHUNK_BYTES + 1, CHUNK_BYTES):
        seed = xxh3_64_intdigest(text[start : start + CHUNK_BYTES], seed)
        hashes.append(seed)
    return tuple(hashes)


def preference(seed: int, engines: Iterable[str]) -> Sequence[str]:
    """Order engines by rendezvous hashing, the winner first: losing an engine never changes the order of the others."""
    return sorted(engines, key=lambda engine: (xxh3_64_intdigest(engine.encode(), seed), engine), reverse=True)
