"""Laws: rules that make a predicate cheaper and leave its truth alone, without integer sets.

`rewrite` applies them until none has anything to say.
"""

from attnmask.algebra.laws.rewriting import EQUAL_PARTS, RULES, rewrite
from attnmask.algebra.laws.rule import Rule

__all__ = ["EQUAL_PARTS", "RULES", "Rule", "rewrite"]
