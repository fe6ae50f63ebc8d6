"""From IR and tiles to torch: generated source, BlockMask, attention."""
