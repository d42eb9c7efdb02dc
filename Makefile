# make figure: regenerate the headline figure; make test: run the tests; make test-slow: the few that take longer (notebooks);
# make all-figures: every figure of the base installation, and the report; make fig6: the one on language models;
# make map: docs/map.md, from the code and figures/; make docs: the documentation as a site, in build/site;
# make test-quick: a minute of tests; make test-pythons: the tests on every Python that is here. All install what they need into $(VENV). CONSTRAINTS=constraints.txt: with the versions that
# figures/ was computed with, into an environment of their own.
PYTHON ?= python3
CONSTRAINTS ?=
VENV ?= .venv$(if $(CONSTRAINTS),-$(basename $(notdir $(CONSTRAINTS))))
PRESET ?= cpu
OUT ?= figures
READY = $(VENV)/.ready

.PHONY: figure all-figures fig6 map docs install test test-slow test-quick test-pythons test-lm test-trl lint clean

figure: $(READY)
	$(VENV)/bin/nail figure fig2 --preset $(PRESET) --out $(OUT)

all-figures: $(READY)
	$(VENV)/bin/nail figure all --preset $(PRESET) --out $(OUT)
	$(VENV)/bin/nail report $(OUT)

map: $(READY)
	$(VENV)/bin/python -m nail_experiments._map

docs: $(VENV)/.docs
	$(VENV)/bin/python docs/site.py
	$(VENV)/bin/zensical build --strict --clean

$(VENV)/.docs: $(READY)
	$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	@touch $@

test: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m "not slow"

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m slow

test-quick: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -m quick

test-pythons:
	$(PYTHON) .ci/pythons.py

install: $(READY)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# where pip is to take torch from, for example --index-url URL of an index with the smaller wheels without CUDA
TORCH_FROM ?=
LM_VENV ?= .venv-lm
LM_READY = $(LM_VENV)/.ready

# language models, in an environment of their own
fig6: $(LM_READY)
	$(LM_VENV)/bin/nail figure fig6 --preset $(PRESET) --out $(OUT)

# torch (for the comparison with transformers and PEFT) is left out where it cannot be had, and the tests that need it are
# skipped
test-lm: $(LM_VENV)/.torch
	$(LM_VENV)/bin/python -m pytest -p no:xdist -W default --disable-warnings tests/lm/lm_*.py

$(LM_READY): pyproject.toml
	$(PYTHON) -m venv $(LM_VENV)
	$(LM_VENV)/bin/python -m pip install --quiet --editable ".[test,lm]"
	@touch $@

$(LM_VENV)/.torch: $(LM_READY)
	-$(LM_VENV)/bin/python -m pip install --quiet torch==2.13.0 $(TORCH_FROM)
	-$(LM_VENV)/bin/python -m pip install --quiet --no-deps peft==0.21.2 accelerate==1.15.0 psutil
	@touch $@

TRL_VENV ?= .venv-trl
TRL_READY = $(TRL_VENV)/.ready

# the trainer in PyTorch, in an environment of its own, with torch from where TORCH_FROM says; nothing is
# downloaded by the tests, and TRL reports nothing home
test-trl: $(TRL_READY)
	HF_HUB_OFFLINE=1 $(TRL_VENV)/bin/python -m pytest -p no:xdist -W default --disable-warnings tests/trl/trl_*.py

$(TRL_READY): pyproject.toml
	$(PYTHON) -m venv $(TRL_VENV)
	-$(TRL_VENV)/bin/python -m pip install --quiet torch==2.13.0 $(TORCH_FROM)
	$(TRL_VENV)/bin/python -m pip install --quiet --editable ".[test,trl]"
	@touch $@

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nail needs Python 3.11 or newer, and $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $(addprefix --constraint ,$(CONSTRAINTS)) --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) $(LM_VENV) $(TRL_VENV) .venv-py3* .venv-lowest* .venv-constraints build *.egg-info
