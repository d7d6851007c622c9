# `make` lists what there is. Everything is installed into .venv, on first use; another Python: make lab PYTHON=python3.12
PYTHON ?= python3
# A notebook's kernel takes up to 1.6 GB, and so do JupyterLab, Chromium and what drives them.
MEASURED := OMP_NUM_THREADS=1 .venv/bin/python tests/peak_memory.py --limit 6 .venv/bin/python
# Two processes, each with a kernel where a test has one; but a browser and its kernel are alone, or it is above 6 GB.
PYTEST := $(MEASURED) -m pytest -n auto --maxprocesses 2

.PHONY: help lab test quick bench site colab colab-check record

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

lab: .venv/lab.installed ## JupyterLab with the first notebook; arguments for it: LAB_ARGS="--no-browser --port 8899"
	.venv/bin/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --ServerApp.ip=127.0.0.1 $(LAB_ARGS)

test: .venv/test.installed ## the whole suite: package, then notebooks and browser
	$(PYTEST) -m "not slow"
	$(PYTEST) -m slow --ignore tests/browser
	$(MEASURED) -m pytest -m slow tests/browser

quick: .venv/test.installed ## the inner loop: lint and unit tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(PYTEST) -m "not slow"

bench: .venv/bench.installed build/rivals.installed ## speed beside other libraries, of models and of maps, for about half an hour
	.venv/bin/python tests/benchmarks/bench.py
	.venv/bin/python tests/benchmarks/time_to_accuracy.py
	.venv/bin/python tests/benchmarks/attention.py

# What maps are compared with, without what they ask for: it is there already, or only draws.
build/rivals.installed: Makefile | .venv/bench.installed
	.venv/bin/python -m pip install --disable-pip-version-check --no-deps --upgrade --target build/rivals \
	  fast-vit-rollout==0.1.1 torchxai-explain==0.3.0 opencv-python-headless==5.0.0.93
	@touch $@

site: .venv/site.installed ## the course as static pages, for reading without a kernel
	.venv/bin/python tests/course_site.py

colab: need-REPO .venv/test.installed ## point the Colab cells and links to a repository: REPO=owner/name (REPO= takes it out)
	.venv/bin/python tests/notebook_tools.py stamp "$(REPO)"

colab-check: .venv/test.installed ## install and run everything beside the versions that Colab has
	$(MEASURED) tests/colab_check.py

record: need-NB .venv/test.installed ## run a notebook in full and store its outputs: NB=01_patching
	.venv/bin/python tests/notebook_tools.py record $(NB)

need-%:
	$(if $(filter undefined,$(origin $*)),$(error $* is missing; `make` shows an example))

# An environment that has everything already is left as it is: pip changes only what is missing or does not fit.
.venv/%.installed: pyproject.toml constraints.txt | .venv/bin/pip
	.venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt hatchling editables
	.venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt --no-build-isolation -e ".[$*]"
	@touch $@

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'vitlab needs Python 3.11 or newer; "$(PYTHON)" is not. Choose another: make lab PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo '"$(PYTHON)" cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv .venv
