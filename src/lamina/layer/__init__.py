"""Layers as tar streams: read and write them, apply them to directories, and make them from directories."""
