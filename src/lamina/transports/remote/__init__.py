"""Registries over the OCI distribution protocol, as a client."""
