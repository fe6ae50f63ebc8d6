"""Sets of integers as ascending ranges with gaps between them, endless ones among them."""

from __future__ import annotations

from collections.abc import Iterable

# Past every integer that a mask computes with (64 bits), and past sums of such.
ENDLESS = 1 << 100

Range = tuple[int, int]  # first and last
Ranges = tuple[Range, ...]

EVERY: Ranges = ((-ENDLESS, ENDLESS),)
NO: Ranges = ()


def at_most(value: int) -> Ranges:
    return ((-ENDLESS, value),)


def at_least(value: int) -> Ranges:
    return ((value, ENDLESS),)


def complement(values: Ranges) -> Ranges:
    ends = [-ENDLESS - 1]
    for first, last in values:
        ends += [first, last]
    ends.append(ENDLESS + 1)
    gaps = zip(ends[::2], ends[1::2], strict=True)
    return tuple((before + 1, after - 1) for before, after in gaps if after - before > 1)


def intersection(one: Ranges, other: Ranges) -> Ranges:
    found: list[Range] = []
    left, right = 0, 0
    while left < len(one) and right < len(other):
        first = max(one[left][0], other[right][0])
        last = min(one[left][1], other[right][1])
        if first <= last:
            found.append((first, last))
        if one[left][1] <= other[right][1]:
            left += 1
        else:
            right += 1
    return tuple(found)


def union(parts: Iterable[Range]) -> Ranges:
    """The union of ranges in any order; empty ones (last below first) are allowed."""
    found: list[Range] = []
    for first, last in sorted(part for part in parts if part[0] <= part[1]):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def mirrored(values: Ranges) -> Ranges:
    """{-x}"""
    return tuple((-last, -first) for first, last in reversed(values))


def moved(values: Ranges, by: int) -> Ranges:
    """{x + by}"""
    return tuple((_end(first, first + by), _end(last, last + by)) for first, last in values)


def divided(values: Ranges, by: int) -> Ranges:
    """{x : by * x is one of the values}, for a positive factor."""
    return union((_end(first, -(-first // by)), _end(last, last // by)) for first, last in values)


def with_quotient_in(values: Ranges, by: int) -> Ranges:
    """{x : x // by is one of the values}, for a positive divisor."""
    return union((_end(first, first * by), _end(last, last * by + by - 1)) for first, last in values)


def with_magnitude_in(values: Ranges) -> Ranges:
    """{x : |x| is one of the values}"""
    kept = intersection(values, at_least(0))
    return union([*kept, *mirrored(kept)])


def clamped(value: int) -> int:
    """An end of a range: past 64 bits there is nothing, so that is as good as endless."""
    return min(max(value, -ENDLESS), ENDLESS)


def _end(before: int, after: int) -> int:
    """An end of a range after an operation on it: endless ranges stay endless."""
    return before if abs(before) == ENDLESS else clamped(after)
