# Bascule: everything a developer does. `make help` lists it.

VENV := .venv
PYTHON := $(VENV)/bin/python
OLDEST := .venv-oldest
OLDEST_TESTS := tests/trust tests/session tests/xmpp tests/net
# What takes long and hardly depends on versions: redirection, memory, load, the clock, plaintext.
OLDEST_TESTS += $(addprefix --ignore tests/net/test_,redirected.py attack_12_growth.py \
	attack_13_deadlines.py attack_18_proxy_protocol.py attack_25_busy.py board_processes.py \
	connector.py connector_resets.py divided_streams.py divider.py drain.py federation_long.py \
	forward_attacks_before_tls.py overload_dns.py overload_keyring.py plugins_on_the_wire.py \
	reload_under_load.py route.py trust_killed.py)
NODE := tests/servers/node
SERVERS := tests/servers tests/systemd tests/load
ARGS ?=
SOAK ?= 3600,5000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help demo test oldest check bench fuzz soak format dist deb pins clean test-setup test-net test-servers test-rest

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.ready ## Watch a client log in through Bascule (ARGS=--once: then leave)
	@$(VENV)/bin/bascule demo $(ARGS)

# Tests wait more than they compute, so they run in several lanes beside each other.
test: check test-setup ## Check, run all tests and `oldest` (ARGS: options of pytest; skips `oldest`)
	$(if $(ARGS),$(PYTHON) -m pytest $(ARGS),@tools/lanes.sh test-rest test-net test-servers oldest)

test-net:
	$(PYTHON) -m pytest tests/net

test-servers:
	$(PYTHON) -m pytest $(SERVERS)

test-rest:
	$(PYTHON) -m pytest $(addprefix --ignore ,tests/net $(SERVERS))

# What depends on other projects' versions: TLS, certificates, names, XML. There is no environment
# where setup.sh has said that no index can be reached.
oldest: $(OLDEST)/.ready ## Run tests on the oldest versions that are supported (ARGS: options of pytest)
	@[ ! -e $< ] || HYPOTHESIS_PROFILE=brief $(OLDEST)/bin/python -m pytest $(OLDEST_TESTS) $(ARGS)

check: $(VENV)/.ready ## Lint, formatting, types, generated files
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTHON) -m proxy.daemon.reference --check
	$(PYTHON) tools/tables.py --check

bench: $(VENV)/.ready ## Measure Bascule beside HAProxy (ARGS: options of the benchmark)
	@tools/setup.sh packages bench
	$(PYTHON) -m bench $(ARGS)

fuzz: $(VENV)/.ready ## Run the property tests with many more examples (ARGS: options of pytest)
	HYPOTHESIS_PROFILE=deep $(PYTHON) -m pytest -m hypothesis --timeout 3600 $(ARGS)

soak: $(VENV)/.ready ## Let 5,000 sessions come and go for an hour (SOAK=SECONDS,SESSIONS)
	BASCULE_SOAK=$(SOAK) $(PYTHON) -m pytest -s tests/load/test_soak.py

format: $(VENV)/.ready ## Format the code, mend what the linter can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

dist: $(VENV)/.ready ## Build the wheel and the sdist, in dist/
	rm -f dist/bascule-*
	$(PYTHON) -m build --no-isolation --quiet

deb: dist ## Build the Debian package from the sdist, and lint it
	@tools/setup.sh packages deb
	tools/deb.sh

pins: $(VENV)/.ready ## Take the versions in .venv up in what the Debian package carries
	$(PYTHON) tools/pins.py

clean: ## Remove everything that was made here
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -rf $(NODE)/node_modules bench/build bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

test-setup: $(NODE)/node_modules/.package-lock.json
	@tools/setup.sh packages tests

$(VENV)/.ready: setup.cfg
	@tools/setup.sh packages python python

$(OLDEST)/.ready: setup.cfg tools/oldest.py
	@tools/setup.sh packages python oldest

# npm writes this file itself. Without a suitable Node.js it never appears, which setup.sh says.
$(NODE)/node_modules/.package-lock.json: $(NODE)/package-lock.json
	@tools/setup.sh node
