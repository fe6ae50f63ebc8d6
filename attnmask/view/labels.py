"""Positions and counts in the notation of the mask language, where 4k is 4096 and 1m is 1048576."""

from __future__ import annotations

_UNITS = ((1 << 20, "m"), (1 << 10, "k"))
_LONGEST_PLAIN = 7


def position(tokens: int) -> str:
    """A token position for an axis: `768`, `1.5k`, `128k`, `1m`; in full where k or m would round it.

    >>> [position(n) for n in (0, 1000, 1024, 1536, 100000, 1 << 20)]
    ['0', '1000', '1k', '1.5k', '100000', '1m']
    """
    plain = str(tokens)
    for unit, letter in _UNITS:
        if abs(tokens) >= unit:
            short = _trimmed(tokens / unit)
            if float(short) * unit == tokens or len(plain) > _LONGEST_PLAIN:
                return short + letter
    return plain


def _trimmed(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
