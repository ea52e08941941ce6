"""UUIDv7: ids that sort by the time they were made, so the table's index grows at its end.

Layout (RFC 9562, method 1): 48 bits of milliseconds, version, 42 bits of counter around the variant, 32 random bits.
"""

import os
import threading
import time
import uuid

_COUNTER_MAX = (1 << 42) - 1
_lock = threading.Lock()
_last = (0, 0)


def successor(last: tuple[int, int], now_ms: int, seed: int) -> tuple[int, int]:
    """Milliseconds and counter of the next id: greater than `last` even when the clock stands or steps back.

    `seed` is any integer; half of the counter's range stays free to count in.
    """
    ms, counter = last
    if now_ms <= ms and counter < _COUNTER_MAX:
        return ms, counter + 1
    return max(now_ms, ms + 1), seed & (_COUNTER_MAX >> 1)


def compose(ms: int, counter: int, tail: int) -> uuid.UUID:
    """The id of these milliseconds (48 bits), counter (42 bits) and random tail (32 bits)."""
    high = ms << 16 | 0x7 << 12 | counter >> 30
    low = 0b10 << 62 | (counter & 0x3FFFFFFF) << 32 | tail
    return uuid.UUID(int=high << 64 | low)


def uuid7() -> uuid.UUID:
    """A new id, greater than every earlier one of this process."""
    global _last  # noqa: PLW0603  # the clock of the ids, one a process
    entropy = int.from_bytes(os.urandom(10), "big")
    with _lock:
        _last = successor(_last, time.time_ns() // 1_000_000, entropy >> 32)
        ms, counter = _last
    return compose(ms, counter, entropy & 0xFFFFFFFF)
