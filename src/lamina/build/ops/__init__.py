"""Operations bound to their means: trees in the store, a runtime for commands, a directory for the context."""
