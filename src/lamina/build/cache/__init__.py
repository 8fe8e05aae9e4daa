"""What earlier builds left: results by key, and digests of context files by their stat."""
