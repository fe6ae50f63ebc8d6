"""The definition of choices in numpy: which pairs of units a rule takes, and which pairs of positions that makes.

Plain and quadratic, on float64; the fast form of it, in `lower.choose`, is tested against this.
"""

from attnmask.ir.chosen.meaning import chosen, clusters_of, dense_with_choices, meaning, unit_scores

__all__ = ["chosen", "clusters_of", "dense_with_choices", "meaning", "unit_scores"]
