"""The local store as a source and a sink of images."""
