# What a newcomer and CI type. Everything is installed from the locked files into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test components conformance lint docs lock bench clean

demo: $(VENV)/core.installed
	$(BIN)/pulseweir demo $(ARGS)

# Databases of tests sync at every commit: on a memory file system that costs nothing. Two workers: half of the time goes
# into waiting for processes that are killed and for readings in real time.
test: $(VENV)/test.installed components conformance lint
	@scratch=$$(mktemp -d /dev/shm/pulseweir-test-XXXXXX 2>/dev/null || mktemp -d); \
	$(BIN)/pytest -n 2 --no-loadscope-reorder --basetemp=$$scratch/tests $(ARGS); code=$$?; rm -rf $$scratch; exit $$code

# Debian packages that some tests need, by a command of each: a browser, clients in JavaScript and Java.
COMPONENTS := chromium:chromium node:nodejs npm:npm javac:default-jdk-headless mvn:maven

# Without root, or where one cannot be installed, the tests that miss it skip and say which.
components:
	@missing=; for each in $(COMPONENTS); do \
		command -v $${each%%:*} >/dev/null || missing="$$missing $${each##*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq; \
		for package in $$missing; do DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$package >/dev/null || \
		echo "components: $$package could not be installed; the tests that need it will skip"; done; \
	elif [ -n "$$missing" ]; then echo "components: not installed here:$$missing; the tests that need them will skip"; fi

# The conformance runner, in an environment of its own. Without a package index its tests skip and say so.
conformance:
	@$(MAKE) --silent --no-print-directory $(VENV)-conformance/installed || \
		echo "conformance: the runner could not be installed; its tests will skip"

lint: $(VENV)/test.installed
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

# docs/reference.md, made from the code.
docs: $(VENV)/test.installed
	$(BIN)/python docs/make_reference.py

bench: $(VENV)/test.installed
	$(BIN)/pulseweir bench all $(ARGS)

# Versions and hashes only: no addresses.
lock:
	uv pip compile pyproject.toml --universal --generate-hashes --no-annotate --no-header -q -o requirements/core.txt
	uv pip compile pyproject.toml --extra test --extra lint --universal --generate-hashes --no-annotate --no-header -q -o requirements/test.txt
	uv pip compile --group pyproject.toml:conformance --universal --generate-hashes --no-annotate --no-header -q -o requirements/conformance.txt

$(VENV)/core.installed: requirements/core.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/core.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/test.installed: requirements/test.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@ $(VENV)/core.installed

$(VENV)-conformance/installed: requirements/conformance.txt
	$(PYTHON) -m venv --clear $(VENV)-conformance
	$(VENV)-conformance/bin/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes --no-deps -r $<
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-conformance build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
