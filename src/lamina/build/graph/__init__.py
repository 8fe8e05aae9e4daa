"""The build graph: digest-addressed vertices that say nothing about Dockerfiles or containers."""
