"""Drivers of file trees: overlay and plain copies."""
