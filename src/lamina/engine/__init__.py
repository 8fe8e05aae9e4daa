"""The verbs: pull, push, build, run, commit, prune ... one module per noun, over the areas below."""
