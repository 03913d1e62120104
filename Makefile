# Two commands do everything: `make demo` and `make test`. Each sets up what it needs first.
PROFILE ?= demo
NOTEBOOKS ?= all
OUT     ?= runs
PYTHON  ?= python3
PY      := .venv/bin/python
UV      := .tools/bin/uv
VENV     = $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
# one thread a process, one process a core: bit-reproducible, and faster at these sizes
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test oldest lab notebooks verify bench gpu lock pairs lint
.DEFAULT_GOAL := help

help:       ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## ?/  make \1\t/' | expand -t 18

setup: .venv/ready ## an environment in .venv with the exact versions of requirements.lock

# uv needs neither the venv module nor a writable system Python, so a bare python3 and pip are enough.
$(UV):
	@echo "setting up: uv"
	@PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv

.venv/ready: requirements.lock pyproject.toml | $(UV)
	@echo "setting up: .venv (several GB at the first time: torch)"
	@test -x $(PY) || $(VENV) .venv
	@$(UV) pip install --quiet --compile-bytecode --python $(PY) --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(PY) --no-deps -e .
	@touch $@

demo: setup ## execute the notebooks on Plaza and say where to look (PROFILE=smoke: a minute each)
	@$(PY) -m reidkit run $(NOTEBOOKS) --profile $(PROFILE) --out $(OUT)
	@$(PY) -m reidkit report --runs $(OUT)

test: setup lint ## lint, then every test, notebooks included (smoke profile)
	@$(PY) -m pytest -n auto --dist loadgroup

oldest: $(UV) ## the tests again, at the oldest versions that pyproject.toml admits
	@rm -rf .oldest
	@$(VENV) .oldest
	@$(UV) pip install --quiet --python .oldest/bin/python --resolution lowest-direct --all-extras -r pyproject.toml -e .
	@.oldest/bin/python -m pytest -n auto --dist loadgroup

lint: setup
	@.venv/bin/ruff check --quiet . && .venv/bin/ruff format --quiet --check .

lab: setup ## JupyterLab on notebooks/
	@.venv/bin/jupyter lab --notebook-dir=notebooks

notebooks: setup ## run every notebook (demo) and keep the outputs in notebooks/ (NOTEBOOKS=07: that one)
	@$(PY) -m reidkit run $(NOTEBOOKS) --profile demo --out $(OUT)
	@$(PY) tools/committed.py keep $(NOTEBOOKS) --runs $(OUT)

verify: setup ## run every notebook anew and compare its numbers with the committed ones
	@rm -rf $(OUT)/verify
	@$(PY) -m reidkit run all --profile demo --out $(OUT)/verify || true
	@$(PY) tools/committed.py verify --runs $(OUT)/verify

pairs: setup ## bring notebooks/*.ipynb in line with notebooks/scripts/*.py
	@$(PY) tools/pair.py

bench: setup ## speed and memory, beside the floor; results in benchmarks/results/
	@for script in benchmarks/[a-z]*.py benchmarks/_chart.py; do echo "== $$script"; $(PY) $$script || exit 1; done

gpu: setup ## what a GPU is good for, on whatever card is here
	@$(PY) benchmarks/gpu.py

lock: $(UV) ## make requirements.lock anew from pyproject.toml
	@$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.lock
