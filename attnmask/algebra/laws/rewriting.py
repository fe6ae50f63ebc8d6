"""Applying laws everywhere in a predicate until none has anything to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from attnmask.algebra.cost import Part, operations
from attnmask.algebra.laws.arithmetic import ARITHMETIC
from attnmask.algebra.laws.bounds import BOUNDS
from attnmask.algebra.laws.choices import CHOICES
from attnmask.algebra.laws.comparisons import COMPARISONS
from attnmask.algebra.laws.extremes import EXTREMES
from attnmask.algebra.laws.known import Known, turned
from attnmask.algebra.laws.logic import FACTORING, LOGIC
from attnmask.algebra.laws.neighbours import CASES, NEIGHBOURS
from attnmask.algebra.laws.ranges import intersection, mirrored
from attnmask.algebra.laws.rule import Rule
from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import (
    Add,
    And,
    BoolTable,
    Compare,
    Const,
    Index,
    Max,
    Min,
    Mul,
    Or,
    Predicate,
    Table,
    Where,
    Xor,
)
from attnmask.ir.tables import TableData
from attnmask.ir.walk import children, postorder, rebuild

Step = tuple[str, Predicate, Predicate]
OnStep = Callable[[str, Predicate, Predicate], None]

EQUAL_PARTS = "equal parts"
RULES: tuple[Rule, ...] = (
    *ARITHMETIC,
    *COMPARISONS,
    *CHOICES,
    *EXTREMES,
    *LOGIC,
    *BOUNDS,
    *NEIGHBOURS,
    *FACTORING,
    *CASES,
)
# Laws may undo one another through what the constructors of nodes make of their results; this ends it.
_MOST_STEPS_A_NODE = 20
_LARGE = 1000


def rewrite(
    root: Predicate,
    on_step: OnStep | None = None,
    *,
    domain: Domain | None = None,
    tables: Mapping[str, TableData] | None = None,
) -> Predicate:
    """`root` by the laws: equal at every place of the domain (of every call, without one), and no costlier.

    `on_step` is told each step: the name of the law, the part that it changed, and what that became; steps
    inside of integers are told as steps of the comparison or entry around them. Entries of `tables` are known
    to be within their bounds. A call that is accepted with `root` is accepted with the result; only entries
    beyond 2**60 of tables that are not given may be too large for it.
    """
    known = Known(domain, tables)
    steps: list[Step] = []
    found = _all_laws(root, known, steps)
    if found is None:
        # A part that occurs elsewhere too costs nothing, so what is lighter by itself may be dearer in all. The
        # laws of logic make no new parts.
        plain = _descent(root, (*LOGIC, *FACTORING), known, steps)
        found = root if plain is None else _all_laws(plain, known, steps) or plain
    for step in steps if on_step is not None else ():
        cast(OnStep, on_step)(*step)
    return found


def _all_laws(root: Predicate, known: Known, steps: list[Step]) -> Predicate | None:
    large = len(postorder(root)) > _LARGE
    return _descent(root, [rule for rule in RULES if not (large and rule.thorough)], known, steps)


def _descent(root: Predicate, rules: Iterable[Rule], known: Known, steps: list[Step]) -> Predicate | None:
    """The predicate by some laws, and the steps to it; None where that would be costlier."""
    rewriting = Rewriting(rules, known)
    found = rewriting.run(root)
    if operations(found) > operations(root):
        return None
    steps += rewriting.steps
    return found


class Rewriting:
    """One descent. Every distinct part is settled once, its own parts before it; nothing recurses."""

    def __init__(self, rules: Iterable[Rule], known: Known) -> None:
        self.known = known
        self.rules: dict[type[Part], list[Rule]] = {}
        for rule in rules:
            for kind in rule.kinds:
                self.rules.setdefault(kind, []).append(rule)
        self.steps: list[Step] = []
        self._settled: dict[Part, Part] = {}
        self._next: dict[Part, Part] = {}  # what a part became, where that is not settled itself yet
        self._first: dict[object, Part] = {}  # of the parts that mean the same
        self._reasons: dict[Part, tuple[str, ...]] = {}  # the laws that changed an integer
        self._left = 0

    def run(self, root: Predicate) -> Predicate:
        self._left = _MOST_STEPS_A_NODE * len(postorder(root))
        stack: list[Part] = [root]
        open_: set[Part] = set()
        while stack:
            node = stack[-1]
            if node in self._settled:
                stack.pop()
            elif node in self._next:
                self._follow(node, stack, open_)
            elif waiting := [part for part in self._parts(node) if part not in self._settled]:
                stack += reversed(waiting)
            else:
                open_.add(node)
                self._advance(node)
        return cast(Predicate, self._settled[root])

    def _follow(self, node: Part, stack: list[Part], open_: set[Part]) -> None:
        following = self._next[node]
        if following in self._settled:
            self._settled[node] = self._settled[following]
            self._explain(node, self._reasons.get(following, ()))
        elif following in open_:
            self._settled[node] = node  # laws that go round; weights should rule that out
        else:
            stack.append(following)

    def _advance(self, node: Part) -> None:
        """One step from a part whose own parts are settled."""
        rebuilt = self._over_settled_parts(node)
        if rebuilt is not node:
            names = dict.fromkeys(name for part in children(node) for name in self._reasons_of(part))
            self._become(node, rebuilt, tuple(names))
            return
        for rule in self.rules.get(type(node), ()) if self._left > 0 else ():
            found = self._applied(rule, node)
            if found is not node:
                self._left -= 1
                self._become(node, found, (rule.name,))
                return
        first = self._first.setdefault(_meaning(node, self.known), node)
        if first is not node and self.known.weight(first) <= self.known.weight(node):
            self._become(node, first, (EQUAL_PARTS,))
        else:
            self._settled[node] = node

    def _parts(self, node: Part) -> Iterable[Part]:
        """The children that are settled before the node, which is all but those that must keep their form."""
        parts = cast("tuple[Part, ...]", children(node))
        if isinstance(node, Table | BoolTable):
            return [part for part in parts if not self._counted_from_end(part)]
        return parts

    def _counted_from_end(self, index: Part) -> bool:
        """where(at < 0, at + size, at) is how lifted functions count from the end; `check` knows that form."""
        match index:
            case Where(Compare(_, "<", Const(0)) as negative, _, _):
                return self.known.region(negative).settled is None
        return False

    def _over_settled_parts(self, node: Part) -> Part:
        changed = {part: self._settled[part] for part in self._parts(node)}
        parts = [changed.get(cast(Part, part), part) for part in children(node)]
        if all(part is child for part, child in zip(parts, children(node), strict=True)):
            return node
        try:
            rebuilt = cast(Part, rebuild(node, parts))
        except MaskError:  # a constant past 64 bits, or too many terms
            return node
        return node if self.known.weight(rebuilt) > self.known.weight(node) else rebuilt

    def _applied(self, rule: Rule, node: Part) -> Part:
        try:
            found = rule.function(node, self.known)
        except MaskError:
            return node
        return node if found is None or self.known.weight(found) >= self.known.weight(node) else found

    def _become(self, node: Part, found: Part, names: tuple[str, ...]) -> None:
        self._next[node] = found
        if isinstance(node, Predicate) and isinstance(found, Predicate):
            if names:
                self.steps.append((", ".join(names), node, found))
        else:
            self._explain(node, names)

    def _explain(self, node: Part, names: tuple[str, ...]) -> None:
        """Notes the laws that changed an integer, which are told with the predicate around it."""
        if isinstance(node, Index):
            self._reasons[node] = tuple(dict.fromkeys((*self._reasons.get(node, ()), *names)))

    def _reasons_of(self, part: object) -> tuple[str, ...]:
        return self._reasons.get(cast(Part, part), ())


def _meaning(node: Part, known: Known) -> object:
    """Equal for parts that are written differently and mean the same."""
    match node:
        case And(parts) | Or(parts) | Add(parts) | Min(parts) | Max(parts):
            return type(node), frozenset(parts)
        case Mul(factors):
            return Mul, frozenset(Counter(factors).items())
        case Xor(lhs, rhs):
            return Xor, frozenset((lhs, rhs))
        case Compare():
            region = known.region(node)
            values = intersection(region.values, (region.possible,))
            return Compare, frozenset(((region.key, values), (turned(region.key), mirrored(values))))
    return node
