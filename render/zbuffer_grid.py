"""The grid that corners are snapped to, shared by all z-buffers: here, compiled, and in torch."""

SUBPIXEL_BITS = 8
SUBPIXELS = 1 << SUBPIXEL_BITS

GRID_LIMIT = 1 << 29
"""Corners are held within ±2^29 steps of 1/256 px, ±2^21 px: edge functions, differences of two products, then stay
below 2^62 and cannot overflow. A corner farther out is moved to this border, alike for all triangles that share it."""
