"""Mask functions as people write them for FlexAttention: what a builder that takes any function has to take.

Each module holds some families; `ENTRIES` has every function that they define, by name, in their order.
"""

from __future__ import annotations

from benchmarks.mask_functions import decoding, heads, images, packing, sequences, videos
from benchmarks.mask_functions.entry import MaskFunction

ENTRIES: dict[str, MaskFunction] = {
    entry.name: entry
    for module in (sequences, packing, decoding, heads, images, videos)
    for entry in vars(module).values()
    if isinstance(entry, MaskFunction)
}
