# Every target sets up what it needs first (Debian packages, .venv); when nothing is missing that takes no time.
# Without make: each target is one script, run `scripts/setup LEVEL` and then the script itself.
.PHONY: help demo test check fix docs lock bench base-image clean
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: ## the whole story on an embedded registry: import, build, run, push, pull, save, load, fsck
	@scripts/setup run
	@scripts/demo

test: ## all checks and tests
	@scripts/setup test
	@scripts/test $(ARGS)

check: ## the static checks only
	@scripts/setup python
	@scripts/check

fix: ## format, and repair what ruff can repair
	@scripts/setup python
	@$(or $(VENV),.venv)/bin/ruff check --fix .
	@$(or $(VENV),.venv)/bin/ruff format .

docs: ## write the generated pages anew
	@scripts/setup python
	@$(or $(VENV),.venv)/bin/python scripts/docs.py

bench: ## measure against dockerd and podman; CASES=pull,push picks, TOOLS=lamina,podman picks
	@scripts/setup bench
	@scripts/bench $(ARGS)

base-image: ## a Debian root file system as .cache/debian.tar
	@scripts/setup run
	@scripts/base-image

lock: ## write requirements.lock anew (needs uv)
	@scripts/lock --upgrade

clean: ## remove what the targets made here
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist benchmarks/results
