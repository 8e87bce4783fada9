# `make` lists the targets.
.DEFAULT_GOAL := help
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$name -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$name; exit; fi; done; echo python3)
BIN := .venv/bin
LOCAL_DIR ?= .local
LOCAL_REQUIREMENTS := mailer_project/local/requirements.txt

.PHONY: help
help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One environment; its stamps say which requirements it holds.
.venv/bin/python:
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { \
		echo "This needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another one: make run PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.local-stamp: requirements.txt $(LOCAL_REQUIREMENTS) | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCAL_REQUIREMENTS)
	@touch $@

.PHONY: run
run: .venv/.local-stamp  ## Start the whole system on this machine; Ctrl-C stops it
	@exec $(BIN)/python manage.py up

.PHONY: demo
demo: .venv/.local-stamp  ## Send 2,000 mails to a local mailbox on fresh services; exit 0 if all add up
	@exec $(BIN)/python manage.py up --demo --exit

.PHONY: clean
clean:  ## Delete the local services' data and settings (.local)
	@test ! -e $(LOCAL_DIR) || $(BIN)/python -m mailer_project.local.clean $(LOCAL_DIR)

.venv/.tests-stamp: requirements.txt $(LOCAL_REQUIREMENTS) tests/requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@ .venv/.local-stamp

# One more than there are cores: many tests wait for real processes.
JOBS ?= $(shell echo $$(($$(nproc 2>/dev/null || echo 1) + 1)))
.PHONY: test
test: .venv/.tests-stamp  ## Run the tests against real PostgreSQL, Valkey and workers (ARGS="-k word", JOBS=1)
	@exec $(BIN)/pytest --numprocesses $(JOBS) --maxprocesses 4 --dist loadfile $(ARGS)

# Checks that load Django but talk to no service.
OFFLINE := SECRET_KEY=lint DATABASE_URL=postgres://nobody@127.0.0.1:1/nothing LOCAL_DIR=/nonexistent

.PHONY: lint
lint: .venv/.tests-stamp  ## Check style, types, layers, migrations and the API's schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(OFFLINE) $(BIN)/mypy
	$(OFFLINE) $(BIN)/lint-imports --no-logo
	$(OFFLINE) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(OFFLINE) $(BIN)/python manage.py spectacular --validate --fail-on-warn --file /dev/null

SEEDS ?= 1
BROKER ?= redis
PROVIDER ?= smtp
POLICY ?= hold
.PHONY: chaos
chaos: .venv/.tests-stamp  ## Kill everything while a campaign is sent, then count the mails (SEEDS="1 2" BROKER=amqp PROVIDER=sendgrid|both POLICY=resend)
	@test -n "$(strip $(SEEDS))" || { echo 'SEEDS names no seed; such as SEEDS="1 2 3"' >&2; exit 2; }
	@set -e; for seed in $(SEEDS); do \
		$(BIN)/python -m tests.chaos --seed $$seed --broker $(BROKER) --provider $(PROVIDER) --policy $(POLICY) $(ARGS); done

# Schemathesis stands apart, so that its plugin for pytest meets none of our tests.
.venv/fuzz/.stamp: tests/fuzzing/requirements.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/fuzz
	.venv/fuzz/bin/python -m pip install --quiet --disable-pip-version-check -r tests/fuzzing/requirements.txt
	@touch $@

.PHONY: fuzz
fuzz: .venv/.tests-stamp .venv/fuzz/.stamp  ## Ask the API for what it allows and what it does not; no answer may be a 500 (ARGS="--tag tasks")
	$(BIN)/python -m tests.fuzzing --schemathesis .venv/fuzz/bin/st $(ARGS)

# The peers of the bench stand apart, so that nothing of theirs is needed, or found, by the system.
.venv/peers/.stamp: tests/bench/requirements.txt | .venv/bin/python
	$(BIN)/python -m venv .venv/peers
	.venv/peers/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/requirements.txt
	@touch $@

.PHONY: bench
bench: .venv/.tests-stamp .venv/peers/.stamp  ## Measure speed beside the usual ways to send, into docs/benchmarks.md (ARGS=--quick only prints)
	$(BIN)/python -m tests.bench --peers .venv/peers/bin/python $(if $(ARGS),$(ARGS),--write docs/benchmarks.md)
