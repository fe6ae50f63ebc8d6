"""Laws of `&`, `|`, `^` and `~`, whatever their operands are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from attnmask.algebra.laws.known import Known
from attnmask.algebra.laws.rule import Rule
from attnmask.ir.nodes import And, Compare, Not, Or, Predicate, Xor
from attnmask.ir.predicate import FALSE, and_, not_, or_, xor

# Laws about every pair of the operands of one node.
_MOST_PAIRED = 64
# How far a chain of exclusive ors is looked through.
_LONGEST_CHAIN = 16


def absorption(node: And | Or, known: Known) -> Predicate | None:
    """Without operands of the other kind that have all parts of another operand."""
    inner = _other_kind(node)
    single = {arg for arg in node.args if not isinstance(arg, inner)}
    several = [frozenset(arg.args) for arg in node.args if isinstance(arg, inner)]
    several = several if len(several) <= _MOST_PAIRED else []
    kept = [
        arg
        for arg in node.args
        if not isinstance(arg, inner)
        or (single.isdisjoint(arg.args) and not any(parts < set(arg.args) for parts in several))
    ]
    return None if len(kept) == len(node.args) else _law(node)(*kept)


def complement(node: And | Or, known: Known) -> Predicate | None:
    """Operands of the other kind without parts whose complement is an operand."""
    inner, outer = _other_kind(node), set(node.args)
    args = [
        _inner_law(node)(*(part for part in arg.args if not_(part) not in outer))
        if isinstance(arg, inner)
        else arg
        for arg in node.args
    ]
    return None if args == list(node.args) else _law(node)(*args)


def factoring(node: And | Or, known: Known) -> Predicate | None:
    """The part that most operands share, once."""
    inner = _other_kind(node)
    uses = Counter(part for arg in node.args if isinstance(arg, inner) for part in arg.args)
    if not uses:
        return None
    part, count = max(uses.items(), key=lambda item: item[1])
    if count < 2:
        return None
    group = [arg for arg in node.args if isinstance(arg, inner) and part in arg.args]
    shared = [each for each in group[0].args if all(each in arg.args for arg in group[1:])]
    rest = [_inner_law(node)(*(each for each in arg.args if each not in shared)) for arg in group]
    factored = _inner_law(node)(*shared, _law(node)(*rest))
    first = node.args.index(group[0])
    before = [arg for arg in node.args[:first] if arg not in group]
    after = [arg for arg in node.args[first:] if arg not in group]
    return _law(node)(*before, factored, *after)


def gathered_complements(node: And | Or, known: Known) -> Predicate | None:
    """One negation for several operands."""
    negated = [arg for arg in node.args if isinstance(arg, Not)]
    if len(negated) < 2:
        return None
    rest = [arg for arg in node.args if not isinstance(arg, Not)]
    return _law(node)(*rest, not_(_inner_law(node)(*(arg.arg for arg in negated))))


def exclusive_or(node: And | Or, known: Known) -> Predicate | None:
    """(A & ~B) | (~A & B), (A & B) | (~A & ~B), and their duals."""
    pairs = [(arg, parts) for arg in node.args if len(parts := _pair(arg, node)) == 2]
    if len(pairs) > _MOST_PAIRED:
        return None
    for (one, mine), (other, theirs) in combinations(pairs, 2):
        if {not_(part) for part in mine} == set(theirs):
            found = xor(mine[0], not_(mine[1]) if isinstance(node, Or) else mine[1])
            return _law(node)(*(found if arg is one else arg for arg in node.args if arg is not other))
    return None


def _pair(arg: Predicate, node: And | Or) -> tuple[Predicate, ...]:
    """The parts of an operand of the other kind, which may be written as a negation of the same kind."""
    if isinstance(arg, _other_kind(node)):
        return arg.args
    if isinstance(arg, Not) and isinstance(arg.arg, type(node)):
        return tuple(not_(part) for part in arg.arg.args)
    return ()


def de_morgan(node: Not, known: Known) -> Predicate | None:
    match node.arg:
        case And(args) | Or(args):
            return _inner_law(node.arg)(*(not_(arg) for arg in args))
        case Xor(lhs, rhs):
            return xor(not_(lhs), rhs) if isinstance(lhs, Compare | Not) else xor(lhs, not_(rhs))
    return None


def repeated_exclusive_or(node: Xor, known: Known) -> Predicate | None:
    """A chain without operands that occur twice, and with the negations of others gathered."""
    flipped = False
    odd: dict[Predicate, None] = {}
    for arg in _chain(node):
        if isinstance(arg, Not):
            flipped, arg = not flipped, arg.arg
        if not_(arg) in odd:
            flipped, arg = not flipped, not_(arg)
        if arg in odd:
            del odd[arg]
        else:
            odd[arg] = None
    result: Predicate = FALSE
    for arg in odd:
        if flipped and isinstance(arg, Compare):
            flipped, arg = False, not_(arg)
        result = xor(result, arg)
    return not_(result) if flipped else result


def exclusive_or_with_part(node: Xor, known: Known) -> Predicate | None:
    """A ^ (A & B), A ^ (A | B), and exclusive ors of two operands with a part in common."""
    for one, other in ((node.lhs, node.rhs), (node.rhs, node.lhs)):
        match other:
            case And(args) if one in args:
                return and_(one, not_(and_(*_without(args, (one,)))))
            case Or(args) if one in args:
                return and_(not_(one), or_(*_without(args, (one,))))
    match node:
        case Xor(And(mine), And(theirs)) | Xor(Or(mine), Or(theirs)):
            shared = [part for part in mine if part in theirs]
            law = and_ if isinstance(node.lhs, And) else or_
            apart = xor(law(*_without(mine, shared)), law(*_without(theirs, shared)))
            # Where one of the shared parts of a disjunction holds, both sides do.
            context = shared if isinstance(node.lhs, And) else [not_(or_(*shared))]
            return and_(*context, apart) if shared else None
    return None


def _chain(node: Xor) -> Iterator[Predicate]:
    """The operands of nested exclusive ors."""
    stack: list[Predicate] = [node]
    looked = 0
    while stack:
        arg = stack.pop()
        if isinstance(arg, Xor) and looked < _LONGEST_CHAIN:
            looked += 1
            stack += [arg.rhs, arg.lhs]
        else:
            yield arg


def _without(args: tuple[Predicate, ...], left_out: Iterable[Predicate]) -> list[Predicate]:
    out = set(left_out)
    return [arg for arg in args if arg not in out]


def _other_kind(node: And | Or) -> type[And] | type[Or]:
    return Or if isinstance(node, And) else And


def _law(node: And | Or) -> Callable[..., Predicate]:
    return and_ if isinstance(node, And) else or_


def _inner_law(node: And | Or) -> Callable[..., Predicate]:
    return or_ if isinstance(node, And) else and_


LOGIC = (
    Rule("absorption", (And, Or), absorption),  # A & (A | B) -> A
    Rule("complement", (And, Or), complement),  # A & (~A | B) -> A & B
    Rule("exclusive or", (And, Or), exclusive_or),  # (A & ~B) | (~A & B) -> A ^ B
    Rule("gathered complements", (And, Or), gathered_complements),  # ~A & ~B -> ~(A | B)
    Rule("De Morgan", (Not,), de_morgan),  # ~(A & B) -> ~A | ~B
    Rule("repeated exclusive or", (Xor,), repeated_exclusive_or),  # (A ^ B) ^ B -> A;  ~A ^ ~B -> A ^ B
    Rule("exclusive or with a part", (Xor,), exclusive_or_with_part),  # A ^ (A & B) -> A & ~B
)
FACTORING = (
    Rule("factoring", (And, Or), factoring),  # (A & B) | (A & C) -> A & (B | C)
)
