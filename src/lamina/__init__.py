"""lamina: the whole Docker image system in Python."""

__version__ = "0.1.0"
