"""The HTTP edge of the registry: one module per resource of the distribution protocol."""
