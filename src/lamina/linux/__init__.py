"""What Linux offers below Python's standard library: system calls, mounts as values, namespaces. Stdlib only."""
