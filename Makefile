# Every target runs in a fresh clone: it first installs what it needs, once. A stamp file makes
# repeats instant; a change of pyproject.toml installs again.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# More arguments for the tool that a target runs: make test ARGS="-k saver"
ARGS ?=
# Processes that run tests at a time.
JOBS ?= 2

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: setup
setup: $(VENV)/.setup ## Install the project and its tools into .venv

$(VENV)/.setup: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python found: install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is older than Python 3.11: make $(MAKECMDGOALS) PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1' # the first with dependency groups
	$(PIP) install --quiet --editable '.[demo]' --group dev
	@touch $@

# The other dependency groups, each installed when a target first needs it.
$(VENV)/.group-%: $(VENV)/.setup
	$(PIP) install --quiet --group $*
	@touch $@

# Peers are large and bring their own versions of things, so benchmarks have an environment too.
.venv-bench/.setup: pyproject.toml $(VENV)/.setup
	test -x .venv-bench/bin/python || $(PYTHON) -m venv --without-pip .venv-bench
	$(PIP) --python .venv-bench install --quiet --editable '.[fast]' --group bench
	@touch $@

# So does numba, which holds NumPy back.
.venv-fast/.setup: pyproject.toml $(VENV)/.setup
	test -x .venv-fast/bin/python || $(PYTHON) -m venv --without-pip .venv-fast
	$(PIP) --python .venv-fast install --quiet --editable '.[fast]' --group dev
	@touch $@

# The code generator holds protobuf back, so it has an environment of its own.
.venv-protos/.setup: pyproject.toml $(VENV)/.setup
	test -x .venv-protos/bin/python || $(PYTHON) -m venv --without-pip .venv-protos
	$(PIP) --python .venv-protos install --quiet --group protos
	@touch $@

.PHONY: demo
demo: $(VENV)/.setup ## Train on two servers and two workers, then restore on two new servers
	$(BIN)/paramserve run --ps 2 --workers 2 --checkpoint-root build/demo -- \
		$(BIN)/python examples/digits.py $(ARGS)
	@echo "The servers are gone; two new ones restore the checkpoint."
	$(BIN)/paramserve run --ps 2 --workers 1 --checkpoint-root build/demo -- \
		$(BIN)/python examples/digits.py --restore

.PHONY: test
test: $(VENV)/.setup $(VENV)/.group-oracle .venv-protos/.setup ## Run the whole test suite
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# On one host, connections take shared memory by themselves: `make test` has tried that. These are
# the tests in which what travels matters, not those of whole programs, commands or disks.
GRPC_TESTS := tests/hostile tests/unit/server/test_task_server.py \
	$(addprefix tests/fault/test_,broken_connections.py killed_processes.py) \
	$(filter-out $(addprefix tests/integration/test_,benchmark_suite.py checkpoint_benchmark.py \
		checkpoint_places.py digits_example.py examples.py server_launcher.py top_of_servers.py), \
		$(wildcard tests/integration/test_*.py))

.PHONY: test-grpc
test-grpc: $(VENV)/.setup ## Run the tests of what travels over gRPC alone
	PARAMSERVE_TRANSPORT=grpc $(BIN)/python -m pytest -n $(JOBS) $(GRPC_TESTS) \
		-m "not network and not own_transport" $(ARGS)

# What may run as machine code; `make test` has no numba and skips a part of it.
FAST_TESTS := $(addprefix tests/unit/core/kernels/test_,blocks.py compiling_loops.py \
	fused_updates.py gathered_rows.py training_updates.py)

.PHONY: test-fast
test-fast: .venv-fast/.setup ## Run the tests of updates with the extra [fast]
	.venv-fast/bin/python -m pytest -n $(JOBS) $(FAST_TESTS) $(ARGS)

.PHONY: lint
lint: $(VENV)/.setup .venv-protos/.setup ## Check style, format, layers and generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	.venv-protos/bin/python protos/generate.py --check

.PHONY: types
types: $(VENV)/.setup ## Check types
	$(BIN)/mypy --strict
	$(BIN)/mypy --strict examples/*.py # as a user's type checker sees the public names

.PHONY: protos
protos: .venv-protos/.setup ## Generate the message modules from the .proto files
	.venv-protos/bin/python protos/generate.py

.PHONY: wheel
wheel: $(VENV)/.setup ## Build the wheel, install it into a fresh environment, try it
	rm -rf dist
	$(BIN)/python -m build --installer pip --outdir dist .
	$(BIN)/python -m pytest tests/wheel -m '' $(ARGS)

.PHONY: bench
bench: .venv-bench/.setup ## Measure against other parameter servers
	.venv-bench/bin/python -m benchmarks $(ARGS)

.PHONY: docs
docs: $(VENV)/.group-docs ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

.PHONY: clean
clean: ## Delete what was built, and caches; the environments stay
	rm -rf build dist site .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find client server core protos tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Delete the environments too
	rm -rf $(VENV) .venv-bench .venv-fast .venv-protos
