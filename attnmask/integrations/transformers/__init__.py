"""transformers models whose attention runs under attnmask.

from attnmask.integrations.transformers import register, use_mask

register()
model.set_attn_implementation("attnmask")   # the model's own masks, over live tiles only

with use_mask(model, "causal & (window(512) | sink(4))"):   # a mask of yours
    model.generate(...)

Positions are those of the cache: the first token that it ever saw is 0, and padding on the left counts. Queries
that see no key, such as those of padding, give 0.
"""

from __future__ import annotations

try:
    import transformers  # noqa: F401  # asked for here, so that its absence is told in one sentence
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ImportError(
        "attnmask.integrations.transformers needs transformers\nhint: pip install 'attnmask[transformers]'",
        name="transformers",
    ) from None

from attnmask.integrations.transformers.attend import NAME, register
from attnmask.integrations.transformers.choose import AppliedMask, use_mask

__all__ = ["NAME", "AppliedMask", "register", "use_mask"]
