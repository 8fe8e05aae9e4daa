"""Where images come from and go to: registries, layouts, archives, the local store."""
