"""Public fakes: what tests of lamina, and of programs that use it, run against."""
