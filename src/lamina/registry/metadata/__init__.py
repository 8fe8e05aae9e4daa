"""The registry's metadata: what each repository holds, in one transactional database."""
