"""Laws of sums, quotients, remainders, extremes and absolute values."""

from __future__ import annotations

from math import gcd

from attnmask.algebra.laws.known import Known, Terms, split
from attnmask.algebra.laws.rule import Rule
from attnmask.ir.index import absolute, add, const, floordiv, maximum, minimum, mod, mul, neg, sub
from attnmask.ir.nodes import Abs, Add, Const, FloorDiv, Index, Max, Min, Mod

_MOST_COMPARED = 32


def quotient_and_remainder(node: Add, known: Known) -> Index | None:
    factors = dict(split(node)[0])
    for base, factor in factors.items():
        match base:
            case FloorDiv(lhs, Const(by) as divisor) if by > 0 and factor % by == 0:
                remainder = mod(lhs, divisor)
                times = factor // by
                whole = factors.get(remainder) == times  # by * (x // by) + x % by is x
                part = all(factors.get(term, 0) == -times * own for term, own in split(lhs)[0])
                if whole or part:  # x - by * (x // by) is x % by
                    found = add(node, mul(const(-factor), base), mul(const(times), sub(lhs, remainder)))
                    return found if not isinstance(lhs, Add) or known.fits(found) else None
    return None


def spread(node: Add, known: Known) -> Index | None:
    factors = dict(split(node)[0])
    for base, factor in factors.items():
        if isinstance(base, Max) and len(base.args) == 2 and factor > 0:
            for least in (minimum(*base.args), minimum(*reversed(base.args))):
                if factors.get(least) == -factor:
                    apart = absolute(sub(*base.args))
                    return add(node, mul(const(factor), add(apart, least, neg(base))))
    return None


def magnitude_of_both_signs(node: Max | Min, known: Known) -> Index | None:
    if len(node.args) != 2 or add(*node.args) is not const(0):
        return None
    size = absolute(min(node.args, key=known.weight))
    return size if isinstance(node, Max) else neg(size)


def dominated(node: Max | Min, known: Known) -> Index | None:
    """Without the arguments that are never the extreme one."""
    if len(node.args) > _MOST_COMPARED:
        return None
    upwards = isinstance(node, Max)
    kept = list(node.args)
    for arg in node.args:
        for other in kept:
            pair = (arg, other) if upwards else (other, arg)
            if other is not arg and known.settled(pair[0], "<=", pair[1]):
                kept.remove(arg)
                break
    if len(kept) == len(node.args):
        return None
    return maximum(*kept) if upwards else minimum(*kept)


def absorbed(node: Max | Min, known: Known) -> Index | None:
    """Without arguments that are extremes of the other kind and have another argument among theirs."""
    other = Min if isinstance(node, Max) else Max
    kept = [
        arg
        for arg in node.args
        if not (isinstance(arg, other) and any(part in node.args for part in arg.args))
    ]
    if len(kept) == len(node.args):
        return None
    return maximum(*kept) if isinstance(node, Max) else minimum(*kept)


def known_sign(node: Abs, known: Known) -> Index | None:
    low, high = known.bounds(node.arg)
    if low >= 0:
        return node.arg
    return neg(node.arg) if high <= 0 else None


def sign_of_magnitude(node: Abs, known: Known) -> Index | None:
    return absolute(neg(node.arg))


def known_quotient(node: FloorDiv, known: Known) -> Index | None:
    match node:
        case FloorDiv(lhs, Const(by)):
            low, high = known.bounds(lhs)
            if low // by == high // by:
                return const(low // by)
    return None


def multiples_divided(node: FloorDiv, known: Known) -> Index | None:
    """Terms that the divisor divides, taken out; or a factor that all terms share with it, cancelled."""
    match node:
        case FloorDiv(lhs, Const(by) as divisor) if by > 1:
            terms, constant = split(lhs)
            out = tuple((base, factor // by) for base, factor in terms if factor % by == 0)
            if out:
                rest = sub(lhs, mul(divisor, _total(out)))
                return add(floordiv(rest, divisor), _total(out))
            factor = gcd(by, *(each for _, each in terms))
            if factor > 1:
                # (f*x + c) // (f*b) = (x + c // f) // b
                inside = _total(tuple((base, each // factor) for base, each in terms))
                return floordiv(add(inside, const(constant // factor)), const(by // factor))
    return None


def small_remainder(node: Mod, known: Known) -> Index | None:
    match node:
        case Mod(lhs, Const(by)) if by > 0:
            low, high = known.bounds(lhs)
            if low >= 0 and high < by:
                return lhs
    return None


def multiples_left_out(node: Mod, known: Known) -> Index | None:
    """Factors and the constant taken modulo the divisor."""
    match node:
        case Mod(lhs, Const(by) as divisor) if by > 1:
            terms, constant = split(lhs)
            kept = tuple((base, 1 if factor % by == 1 else factor) for base, factor in terms if factor % by)
            return mod(add(_total(kept), const(constant if constant % by else 0)), divisor)
    return None


def repeated_remainder(node: Mod, known: Known) -> Index | None:
    """Remainders inside of a sum, by a multiple of the divisor."""
    match node:
        case Mod(lhs, Const(by) as divisor) if by > 0:
            terms, constant = split(lhs)
            inner = [_without_remainder(base, by) for base, _ in terms]
            if any(base is not arg for (base, _), arg in zip(terms, inner, strict=True)):
                plain = add(
                    *(mul(const(factor), arg) for arg, (_, factor) in zip(inner, terms, strict=True)),
                    const(constant),
                )
                # What was a remainder may be of any size now.
                return mod(plain, divisor) if plain in inner or known.fits(plain) else None
    return None


def _without_remainder(base: Index, by: int) -> Index:
    match base:
        case Mod(arg, Const(inner)) if inner % by == 0:
            return arg
    return base


def _total(terms: Terms) -> Index:
    return add(*(mul(const(factor), base) for base, factor in terms))


ARITHMETIC = (
    Rule("quotient and remainder", (Add,), quotient_and_remainder),  # x // a * a + x % a -> x
    Rule("spread", (Add,), spread),  # max(x, y) - min(x, y) -> abs(x - y)
    Rule("extreme of both signs", (Max, Min), magnitude_of_both_signs),  # max(x, -x) -> abs(x)
    Rule("dominated argument", (Max, Min), dominated),  # min(x, c) -> x where x <= c
    Rule("absorbed extreme", (Max, Min), absorbed),  # min(x, max(x, y)) -> x
    Rule("known sign", (Abs,), known_sign),  # abs(x) -> x where x >= 0
    Rule("sign of a magnitude", (Abs,), sign_of_magnitude),  # abs(-x) -> abs(x)
    Rule("known quotient", (FloorDiv,), known_quotient),  # x % a // a -> 0
    Rule("multiples in a quotient", (FloorDiv,), multiples_divided),  # (a*y + x) // a -> x // a + y
    Rule("small remainder", (Mod,), small_remainder),  # x % a % b -> x % a where a <= b
    Rule("multiples in a remainder", (Mod,), multiples_left_out),  # (a*y + x) % a -> x % a
    Rule("repeated remainder", (Mod,), repeated_remainder),  # x % (a*b) % a -> x % a
)
