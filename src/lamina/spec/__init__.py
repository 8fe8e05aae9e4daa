"""Immutable values of the image world: one module per spec document, no I/O, bytes and unknown fields kept."""
