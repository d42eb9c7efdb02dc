# make figure: regenerate the headline figure; make test: run the tests; make test-slow: the few that take longer (notebooks);
# make all-figures: every figure and the report; make map: docs/map.md, from the code and figures/.
# All install what they need into $(VENV).
PYTHON ?= python3
VENV ?= .venv
PRESET ?= cpu
OUT ?= figures
READY = $(VENV)/.ready

.PHONY: figure all-figures map test test-slow lint clean

figure: $(READY)
	$(VENV)/bin/nail figure fig2 --preset $(PRESET) --out $(OUT)

all-figures: $(READY)
	$(VENV)/bin/nail figure all --preset $(PRESET) --out $(OUT)
	$(VENV)/bin/nail report $(OUT)

map: $(READY)
	$(VENV)/bin/python -m nail_experiments._map

test: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m "not slow"

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m slow

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nail needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
