"""The solver: runs a graph in parallel, cache first. Knows vertices, cache keys and results; never files."""
