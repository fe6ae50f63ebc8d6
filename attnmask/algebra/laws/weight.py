"""The order in which laws descend: each application makes an expression lighter, so that they come to an end."""

from __future__ import annotations

from attnmask.algebra.cost import Part, operands, own_operations
from attnmask.ir.nodes import Not, Where

# Operations, then choices, then what is under a negation, all as if shared parts were written out.
Weight = tuple[int, int, int]


class Weights:
    """Weights of expressions, each worked out once.

    A part that gets lighter makes every expression around it lighter, which would not be so if shared parts
    counted once.
    """

    def __init__(self) -> None:
        self._known: dict[Part, Weight] = {}

    def of(self, root: Part) -> Weight:
        if root in self._known:
            return self._known[root]
        stack = [root]
        while stack:
            node = stack[-1]
            unknown = [part for part in operands(node) if part not in self._known]
            if unknown:
                stack += unknown
                continue
            stack.pop()
            if node not in self._known:
                self._known[node] = self._weight(node)
        return self._known[root]

    def _weight(self, node: Part) -> Weight:
        parts = [self._known[part] for part in operands(node)]
        inside = sum(part[0] for part in parts)
        choices = sum(part[1] for part in parts) + isinstance(node, Where)
        negated = sum(part[2] for part in parts) + (1 + inside if isinstance(node, Not) else 0)
        return own_operations(node) + inside, choices, negated
