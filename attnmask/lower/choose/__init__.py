"""Choices at run time, in torch: from q and k to sets, and from sets to block masks. Imports look down: ir, tiles."""
