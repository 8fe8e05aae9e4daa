"""Containers: OCI bundles run by crun or runc, supervised by conmon, joined to networks and volumes."""
