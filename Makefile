# Everything a checkout needs: `make serve` and `make test` set themselves up.
VENV ?= .venv
PORT ?= 8000
SEED ?= 0
# The pinned set needs Python 3.11 or 3.12; python3 itself where it is one of them.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)

BIN = $(VENV)/bin
EXTRAS = label,dev
PHANTOMS = --cases 12 --seed 11 --size 72 88 72 --spacing 2 --severity moderate --labelled 6 --prefix sample

.DEFAULT_GOAL := help
.PHONY: help setup serve demo test faults fuzz load lint bench dashboard starter sample-data clean

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
	@echo; echo "  VENV=$(VENV) (virtual environment)   PORT=$(PORT) (of serve)   PYTHON=3.11 or 3.12 to make it with"

# Contents, not times, say whether the environment is up to date: a fresh checkout has new times every time. Recipes and
# not file targets, because make splits target names at spaces.
setup: ## make or update the virtual environment
	@want="$$(cat pyproject.toml constraints.txt | cksum) $(EXTRAS)"; \
	if "$(BIN)/python" -c pass 2>/dev/null && [ "$$(cat "$(VENV)/.installed" 2>/dev/null)" = "$$want" ]; then \
		if [ "$$(cat "$(VENV)/.checkout" 2>/dev/null)" != "$$PWD" ]; then \
			"$(BIN)/python" -m pip install -q --no-deps --no-build-isolation -e . && printf '%s\n' "$$PWD" > "$(VENV)/.checkout"; \
		fi; \
	else \
		set -e; \
		if [ -z "$(PYTHON)" ]; then echo "no Python 3.11 or 3.12 found; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
		echo "setting up $(VENV) (some minutes the first time)"; \
		if [ -e "$(VENV)/pyvenv.cfg" ] && ! "$(BIN)/python" -c pass 2>/dev/null; then rm -rf "$(VENV)"; fi; \
		if [ ! -e "$(BIN)/python" ]; then "$(PYTHON)" -m venv "$(VENV)"; fi; \
		"$(BIN)/python" -m pip install -q -c constraints.txt hatchling editables setuptools; \
		"$(BIN)/python" -m pip install -q -c constraints.txt --no-build-isolation -e '.[$(EXTRAS)]'; \
		printf '%s\n' "$$PWD" > "$(VENV)/.checkout"; printf '%s\n' "$$want" > "$(VENV)/.installed"; \
	fi

serve: setup ## serve the sample studies to 3D Slicer at http://127.0.0.1:PORT (work/ holds studies and models)
	@if [ ! -e work/studies/studies.json ]; then \
		"$(BIN)/rarevoxel" prepare sample-data work/studies --labels --copy; fi
	@exec "$(BIN)/rarevoxel" serve work/studies --home work/home --port "$(PORT)"

demo: setup ## run the whole loop once without Slicer and write demo/report.html
	@"$(BIN)/rarevoxel" demo --out demo

test: setup ## run the tests
	@"$(BIN)/python" -m pytest tests -n auto --maxprocesses 4 --dist loadfile

faults: setup ## run every fault case, the long ones too, and print which hold (some minutes)
	@PYTHONPATH=tests "$(BIN)/python" -m pytest tests -p faults.table --fault-table -m fault -n auto --maxprocesses 4 --dist loadfile

fuzz: setup ## send 2000 requests that nobody should send to a real server (SEED=0)
	@"$(BIN)/python" -m pytest tests/faults/test_fuzz_server.py -s --fuzz-requests 2000 --fuzz-seed "$(SEED)"

load: setup ## load a real server for minutes, kill it once, and check that nothing is lost
	@"$(BIN)/python" benchmarks/load.py

lint: setup ## check style and types
	@"$(BIN)/ruff" check .
	@"$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"

bench: setup ## run every benchmark against its peers (half an hour) and draw work/bench/performance.png
	@mkdir -p work/bench
	@set -e; for name in losses statistics inference loading round; do \
		echo "bench $$name"; "$(BIN)/rarevoxel" bench $$name --json > work/bench/$$name.json; done
	@"$(BIN)/python" benchmarks/performance_figure.py work/bench work/bench/performance.png

dashboard: setup ## take the README's pictures of the dashboard (needs Chromium; some minutes)
	@"$(BIN)/rarevoxel" dashboard --screenshots docs/pictures

# Volumes come and go with every step: without these glibc gives their memory back each time, and half a core is lost.
KEEP_MEMORY = MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=68719476736 MALLOC_TOP_PAD_=268435456

starter: setup ## train the app's starter weights again (hours)
	@$(KEEP_MEMORY) "$(BIN)/rarevoxel" starter --out apps/brain_tumor/starter/starter.pt

sample-data: setup ## make the sample cases again
	@"$(BIN)/rarevoxel" phantom $(PHANTOMS) --force sample-data

clean: ## remove what was built and cached; keeps VENV and work/ (your studies and models)
	@rm -rf dist build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find lib tests apps benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
