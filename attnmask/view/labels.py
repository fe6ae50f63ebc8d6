"""Positions and counts in the notation of the mask language, where 4k is 4096 and 1m is 1048576."""

from __future__ import annotations

_UNITS = ((1 << 20, "m"), (1 << 10, "k"))
_LONGEST_PLAIN = 7
_LEAST_SHARE = 1e-8


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


def percent(share: float) -> str:
    """A share of 1 as a percentage of three digits; only nothing is `0 %` and only everything `100 %`.

    >>> [percent(x) for x in (0, 0.5, 0.00012345, 0.99999, 1)]
    ['0 %', '50 %', '0.0123 %', '> 99.9 %', '100 %']
    """
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    if 0 < share < _LEAST_SHARE:
        return "< 0.000001 %"
    return f"{float(f'{100 * share:.3g}'):.10f}".rstrip("0").rstrip(".") + " %"


def _trimmed(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
