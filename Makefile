# The targets and variables below explain themselves: `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help run-all run summary decide report status plan prune check test test-all test-faults nbval references docs figures gallery publish-url lock lab bench lint clean
SHELL := /bin/bash

PYTHON    ?= python3
PROFILE   ?= quick##     quick: the bundled digits, minutes; full: MNIST at the published budgets
STUDY     ?=##           only these studies, comma-separated
TRIAL     ?=##           only these trials, comma-separated
DATASET   ?=##           digits, mnist, fashion_mnist, kmnist, qmnist; empty: the profile's
SEEDS     ?=##           replicas per trial; empty: the profile's
EPOCHS    ?=##           passes over the training set; empty: the profile's or the notebook's
PRECISION ?=##           auto, float32, bfloat16, float64
JOBS      ?=##           trials at a time; empty: one per GPU, else what keeps the cores busy
WORKERS   ?=##           processes that share a trial's seeds; empty: the cores divided by JOBS
RESULTS   ?= results##   folder that holds the runs
NAME      ?=##           the folder below RESULTS, such as reference for report; empty: the profile's name
HOURS     ?=##           hours after which decide stops; empty: when nothing is left to decide
STALE     ?= keep##      keep, or rerun: run again what older code made
SCHEDULER ?=##           Dask: tcp://host:port, tls://host:port, local:N, slurm

# A misspelt variable is an error, not a run with other settings.
KNOWN   := PYTHON PROFILE STUDY TRIAL DATASET SEEDS EPOCHS PRECISION JOBS WORKERS RESULTS NAME HOURS STALE SCHEDULER URL NOTEBOOKS YES
UNKNOWN := $(strip $(filter-out $(KNOWN),$(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))))
ifneq ($(UNKNOWN),)
$(error unknown variable $(UNKNOWN); valid: $(wordlist 1,15,$(KNOWN)))
endif

ifneq ($(HOURS),)
ifneq ($(filter-out decide,$(MAKECMDGOALS)),)
$(error HOURS=$(HOURS): decide alone takes it)
endif
endif

VENV    := .venv/bin
READY   := .venv/.ready
SELECT   = --profile "$(PROFILE)" --study "$(STUDY)" --trial "$(TRIAL)" --dataset "$(DATASET)" --seeds "$(SEEDS)" \
           --epochs "$(EPOCHS)" --precision "$(PRECISION)" --results "$(RESULTS)" --jobs "$(JOBS)" \
           --workers "$(WORKERS)" --run "$(NAME)"
RUN      = $(VENV)/python -m s6lib run $(SELECT) --stale "$(STALE)" --scheduler "$(SCHEDULER)"
# One thread each: test processes run side by side, and threads that wait for each other spin.
PYTEST   = S6_QUIET=1 OMP_NUM_THREADS=1 $(VENV)/python -m pytest
NBVAL    = $(PYTEST) -p no:cacheprovider --nbval-lax --nbval-current-env \
           --nbval-sanitize-with tests/nbval_sanitize.cfg -n 2 --dist loadscope

SCRATCH  = folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT &&
NOTEBOOKS = $(wildcard tests/reference/*.ipynb) results/reference/summary.ipynb
# One of each kind: tutorial, trial, sweep, several trainings, summary.
KINDS    = $(patsubst %,tests/reference/%.ipynb,00_normalisation_by_hand regularisers.gbn l1_lambda layer_norm_cost) \
           results/reference/summary.ipynb

help: ## list targets and variables
	@echo "make <target> [VARIABLE=value ...]"; echo
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r a b; do printf '%-14s %s\n' "$$a" "$$b"; done
	@echo
	@sed -nE 's/^([A-Z]+) *\?= *([^#]*)## *(.*)/  \1|\3|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r a b c; do printf '%-14s %s%s\n' "$$a" "$$b" "$${c:+ (default: $$c)}"; done

run-all: $(READY) ## run every trial that is not done yet, then the summary notebook
	@$(RUN)

run: $(READY) ## run one trial: make run TRIAL=gbn
	@test -n "$(TRIAL)" || { echo "say which: make run TRIAL=<name>; make plan lists them" >&2; exit 2; }
	@$(RUN)

summary: $(READY) ## execute the summary notebook on what is there
	@$(VENV)/python -m s6lib summary $(SELECT)

decide: $(READY) ## add seeds, look by look, until the claims are decided: make decide STUDY=regularisers HOURS=3
	$(if $(findstring command line,$(origin PROFILE)),$(error PROFILE=$(PROFILE): decide trains at the planned budgets, as PROFILE=full does))
	@$(VENV)/python -m s6lib decide --study "$(STUDY)" --trial "$(TRIAL)" --dataset "$(DATASET)" --seeds "$(SEEDS)" \
	  --epochs "$(EPOCHS)" --precision "$(PRECISION)" --results "$(RESULTS)" --run "$(NAME)" --jobs "$(JOBS)" \
	  --workers "$(WORKERS)" --scheduler "$(SCHEDULER)" --stale "$(STALE)" --hours "$(HOURS)"

report: $(READY) ## write a run's page, report.html, from its records: make report NAME=reference
	@$(VENV)/python -m s6lib report $(SELECT)

status: $(READY) ## list trials as done, running, failed, missing or stale, and the time left
	@$(VENV)/python -m s6lib status $(SELECT)

prune: $(READY) ## list parts that no trial asks for with its present settings; YES=1 deletes them
	$(if $(filter-out 1,$(YES)),$(error YES=$(YES); valid: 1, which deletes, or nothing, which lists))
	@$(VENV)/python -m s6lib prune $(SELECT) $(if $(YES),--yes)

plan: $(READY) ## show what would run, with which parameters
	@$(VENV)/python -m s6lib plan $(SELECT)

check: lint ## lint, types, the numbers that README and docs quote, fast tests (a minute)
	$(VENV)/mypy s6lib
	$(PYTEST) -q -n 2 -m "not slow" --ignore=tests/faults

test: check ## check, then slow tests, one notebook of each kind replayed, a small batch, a short fault suite
	$(PYTEST) -q -n 2 --dist loadscope -m slow --ignore=tests/faults
	$(MAKE) --no-print-directory nbval NOTEBOOKS="$(KINDS)"
	$(SCRATCH) $(VENV)/python -m s6lib run --study normalisers --trial gn_l1,l1_lambda --seeds 2 --epochs 1 --results "$$folder"
	$(PYTEST) -q -n 2 tests/faults

test-all: test ## everything: all notebooks replayed, the quick profile, all faults, mutations (an hour)
	$(MAKE) --no-print-directory nbval
	$(SCRATCH) $(VENV)/python -m s6lib run --profile quick --results "$$folder"
	$(MAKE) --no-print-directory test-faults
	S6_FAULTS=full $(PYTEST) -q tests/test_benchmarks.py
	$(VENV)/python tests/mutations.py

test-faults: $(READY) ## the whole fault suite: kills, full disks, cut networks (about 15 minutes)
	S6_FAULTS=full $(PYTEST) -v tests/faults

nbval: $(READY) ## replay the reference notebooks and compare what is deterministic
	$(SCRATCH) S6_LAB="$$folder" $(NBVAL) $(NOTEBOOKS)

references: $(READY) ## execute the reference notebooks again, after a notebook changed
	OMP_NUM_THREADS=1 $(VENV)/python tests/references.py

docs: $(READY) ## rewrite every quoted number and table
	@$(VENV)/python -m s6lib.report

figures: $(READY) ## draw the committed figures from the committed records
	@$(VENV)/python -m s6lib.report figures

gallery: $(READY) ## execute outdated notebooks of docs/gallery on the committed run; nothing is trained
	@$(VENV)/python -m s6lib.report gallery

lock: ## write requirements.lock from what .venv holds
	$(VENV)/python tests/lock.py

lint: $(READY) ## ruff on code and notebooks
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

publish-url: $(READY) ## write your repository's address everywhere: make publish-url URL=https://github.com/...
	@$(VENV)/python -m s6lib.report url "$(URL)"

lab: $(READY) ## open the notebooks in JupyterLab
	$(VENV)/jupyter lab notebooks

bench: $(READY) ## measure speed on this machine, beside other programs (40 minutes)
	$(VENV)/python benchmarks/bench.py

clean: ## remove the quick run and caches, unless a batch is at work there; full runs and data stay
	@if test -x $(VENV)/python; then $(VENV)/python -m s6lib clean --results "$(RESULTS)"; fi
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || \
	  { echo "$(PYTHON) is too old or missing: Python 3.11.5 or newer is needed; make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(VENV)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@echo "installing about 6.5 GB into .venv: several minutes, in silence"
	$(VENV)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/python -m pip install --quiet --disable-pip-version-check -e . --no-deps
	@touch $@
