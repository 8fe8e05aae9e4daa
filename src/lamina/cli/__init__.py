"""The command line: one module per noun; flags to options, one engine call, print."""
