"""A law: its name, the nodes that it looks at, and the function that applies it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attnmask.algebra.cost import Part
from attnmask.algebra.laws.known import Known


@dataclass(frozen=True, slots=True)
class Rule:
    """`function(node, known)` equals the node at every place, or is None where the law has nothing to say.

    Nodes are of one of the `kinds`, and their parts are as simple already as they get. What comes back replaces
    the node if it is lighter. It may evaluate parts of the node only, and no table entry or quotient besides.
    `thorough` laws look at many pairs of parts, and large predicates do without them.
    """

    name: str
    kinds: tuple[type[Part], ...]
    function: Callable[[Any, Known], Part | None]
    thorough: bool = False
