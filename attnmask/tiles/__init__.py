"""Which tiles of a mask are full, partial or empty: exactly, at a cost that follows the boundary."""
