"""The Dockerfile front end: pure text in, typed instructions, stages and steps out; no I/O anywhere below."""
