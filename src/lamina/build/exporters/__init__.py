"""Where build results go."""
