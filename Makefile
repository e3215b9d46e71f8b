# One command on a machine with Python 3.11 to 3.13, make and git:  make demo   or   make test
# The first run makes .venv and installs into it; later runs start at once.

VENV ?= .venv
# A Python to prefer, e.g. make demo PYTHON=python3.12
PYTHON ?=
# Where pip also looks for torch. Empty: wherever pip looks by default; on PyPI that is the CUDA build (about 3 GB with its libraries).
# Without a GPU:  make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The environment brings its own ROS 2. A sourced one must not mix with it, nor the mark that the ROS wheels leave in child processes.
unexport PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
ifneq ($(findstring /opt/ros/,$(LD_LIBRARY_PATH)),)
unexport LD_LIBRARY_PATH
endif

.PHONY: help venv demo test fuzz soak licences check bench train-model clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo '  variables: PYTHON=python3.12   TORCH_INDEX=https://download.pytorch.org/whl/cpu (machines without a GPU)   VENV=.venv'

venv: $(STAMP)  ## make .venv and install everything that the other targets need

demo: $(STAMP)  ## simulate a building, label its scans over real ROS 2 topics, draw pictures into demo/
	$(BIN)/xkd demo

test: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest

fuzz: $(STAMP)  ## 100,000 mutated clouds, images, recordings, files and models (hours; resumes where it stopped)
	$(BIN)/python test/fuzz/run.py --count 100000

soak: $(STAMP)  ## an hour of clouds through the segmenter: memory, files, threads, times (MINUTES=3: a short one)
	$(BIN)/xkd bench soak --minutes $(or $(MINUTES),60)

licences: $(STAMP)  ## licence of every installed package, as a Markdown table
	$(BIN)/python docs/licences.py

check: $(STAMP)  ## ruff (rules and format), mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports

bench: $(STAMP)  ## measure speed, stage by stage
	$(BIN)/xkd bench model
	$(BIN)/xkd bench node

train-model: $(STAMP)  ## remake models/indoor-24x64 (hours on 2 cores, minutes on a GPU; resumes where it stopped)
	$(BIN)/torchrun --standalone --nproc-per-node=2 -m xkd_ros.cli train-sim config/train/indoor-24x64.yaml --work runs/indoor-24x64 -o models/indoor-24x64 --threads 1

clean:  ## remove what builds and commands wrote (not .venv)
	rm -rf build dist install log demo bench *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# The first Python that fits and has venv; otherwise one line that says what to install.
FIND_PYTHON = \
	for python in $(or $(PYTHON),python3 python3.12 python3.11 python3.13); do \
	  version=$$($$python -c 'import sys; v = sys.version_info[:2]; print("%d.%d" % v if (3, 11) <= v <= (3, 13) else "")' 2>/dev/null); \
	  [ -n "$$version" ] || continue; \
	  if $$python -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
	  lacking=$${lacking:-$$version}; \
	done; \
	if [ -z "$$found" ] && [ -n "$$lacking" ]; then \
	  echo "Python $$lacking is here without venv: sudo apt install python$$lacking-venv, then run make again." >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	  echo "No Python 3.11, 3.12 or 3.13 found as $(or $(PYTHON),python3*): install one, e.g. sudo apt install python3 python3-venv, or name it: make PYTHON=/path/to/python" >&2; exit 1; \
	fi

$(STAMP): setup.py setup.cfg constraints.txt
	@$(FIND_PYTHON); \
	if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  echo "[1/3] making $(VENV) with Python $$version ($$found)"; \
	  $$found -m venv --clear $(VENV) || exit 1; \
	fi
	@echo '[2/3] installing the pinned packages of constraints.txt (a few minutes the first time)'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt setuptools
	@$(BIN)/python -m pip install --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	  -c constraints.txt --no-build-isolation -e '.[all]'
	@echo '[3/3] ready'
	@touch $(STAMP)
