# Two commands for a newcomer: `make run` and `make test`. Everything else is for developers.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
# MNIST: a folder with mnist.npz; ours lies beside the checkout, a user sets EQPROP_DATA.
ifeq ($(origin EQPROP_DATA), undefined)
ifneq ($(wildcard ../shared/data/mnist.npz),)
export EQPROP_DATA := $(abspath ../shared/data)
endif
endif

CSOURCES := $(wildcard csrc/*/*.c csrc/*/*.h csrc/core/cdef.txt csrc/*.py)

.PHONY: aarch64-test bench-defaults embedded-test run test test-all test-random kill-test fuzz mutate bench figures lint csan csan-python test-sdist clean build tsan test-isas

$(VENV)/.deps: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check --upgrade pip
	$(PY) -m pip install -q --disable-pip-version-check "setuptools>=77" "cffi>=1.17"
	@touch $@

$(VENV)/.build: $(VENV)/.deps setup.py $(CSOURCES)
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e ".[test]"
	@$(PY) -m eqprop_fast backends
	@touch $@

build: $(VENV)/.build

run: build
	$(PY) -m eqprop_fast demo

# A file a worker: what Numba compiles for a file is compiled once.
PARALLEL ?= -n 2 --dist loadfile

test: build
	EQPROP_REQUIRE_C=1 $(PY) -m pytest $(PARALLEL) -m "not slow"

test-all: build
	EQPROP_REQUIRE_C=1 $(PY) -m pytest $(PARALLEL)

# SIGKILL at random moments: KILLS of them, or for KILL_SECONDS
KILLS ?= 200
KILL_SEED ?= 0
KILL_SECONDS ?= 900
kill-test: build
	$(PY) -m tests.kill_test $(KILLS) $(KILL_SEED) $(KILL_SECONDS)

# Kernel calls with every option drawn at random, all backends against the twin: about 20 minutes for 20,000.
DRAWS ?= 20000
RANDOM_SEED ?= 1
test-random: build
	EQPROP_RANDOM_DRAWS=$(DRAWS) EQPROP_RANDOM_SEED=$(RANDOM_SEED) $(PY) -m pytest $(RANDOM_TESTS) -k "twin or drawn"
RANDOM_TESTS := $(patsubst %,tests/test_%.py,random_options graph_kernels boltzmann_kernels)

# All fuzz targets, FUZZ_SECONDS together; make fuzz FUZZ_SEED=1 FUZZ="checkpoints conductances"
FUZZ_SECONDS ?= 300
FUZZ_SEED ?= 0
fuzz: build
	PYTHONWARNINGS=ignore $(PY) -m tests.fuzz $(FUZZ_SECONDS) $(FUZZ_SEED) $(FUZZ)

# Small faults put into a copy of the tree: do the tests see them? MUTANTS of each kind of source (C, NumPy, Numba ...)
# in each FAMILY; goes on from the verdicts in build/mutation. make mutate MUTANTS=20 FAMILY="nodal update"
MUTANTS ?= 20
SEED ?= 0
mutate: build
	$(PY) -m tests.mutation $(FAMILY) --mutants $(MUTANTS) --seed $(SEED)

$(VENV)/.bench: $(VENV)/.build
	$(PY) -m pip install -q --disable-pip-version-check -e ".[bench]" --no-build-isolation
	$(PY) -m pip install -q --disable-pip-version-check "torch==2.13.0" jax
	@touch $@

# e.g. make bench BENCH="--quick --only P-1h"
bench: $(VENV)/.bench
	$(PY) -m bench.run $(BENCH)

# The estimators at their defaults beside scikit-learn's, standardised and raw; then the table and plot of docs/defaults.md.
# e.g. make bench-defaults DEFAULTS="--only iris"
DEFAULTS ?=
bench-defaults: build
	$(PY) -m pip install -q --disable-pip-version-check -e ".[bench]" --no-build-isolation
	$(PY) -m bench.defaults.run $(DEFAULTS) --out bench/results/defaults.json
	$(PY) -m bench.defaults.run $(DEFAULTS) --raw --out bench/results/defaults-raw.json
	$(PY) -m bench.defaults.report

# Exported networks inside QEMU, against Python; installs nothing and says which cross-compilers are missing.
embedded-test: build
	$(PY) -m tests.embedded_targets

# The C kernels on AArch64, scalar and NEON, in QEMU's user mode; then the library in an AArch64 Python: that of the
# folder AARCH64_ROOT (root/ and its packages, site/), or one that is fetched to build/aarch64: see tests/aarch64.py.
AARCH64_ROOT ?=
aarch64-test: build
	$(PY) -m tests.aarch64 $(AARCH64_ROOT)

lint: build
	$(PY) -m pip install -q --disable-pip-version-check -e ".[lint]" --no-build-isolation
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m codespell_lib
	@if command -v clang-format >/dev/null; then \
	  clang-format --dry-run -Werror $(wildcard csrc/*/*.[ch] csrc/embedded/*/*.[ch] examples/embedded/*.[ch]); \
	else \
	  echo "clang-format is not installed: the C sources are not checked"; \
	fi

# Every picture in docs/img.
figures: build
	$(PY) docs/figures.py

# The kernels' and the estimators' tests under every instruction set and OpenBLAS core type that runs here, each for
# at most ISAS_SECONDS.
ISAS_SECONDS ?= 1800
test-isas: build
	$(PY) -m tests.isas $(ISAS_SECONDS)

# The C kernels alone, then under Python's tests with each instruction set that runs here (or CSAN_ISAS="sse2 avx2"),
# with the address and undefined-behaviour sanitizers.
csan: csan-python
	$(MAKE) -C csrc/tests run

CSAN_ISAS ?= $(shell $(PY) -c "from eqprop_fast.kernels.native import isa_names; print(*isa_names())")
CSAN_TESTS := $(addprefix tests/test_,$(addsuffix .py,checks activations layered_kernels layered_rules \
  layered_gradients layered_edges graph_kernels boltzmann_kernels crossbar nodal nodal_update random_options))
csan-python: build
	for isa in $(CSAN_ISAS); do echo "EQPROP_ISA=$$isa" && EQPROP_ISA=$$isa EQPROP_TEST_BACKENDS="c numpy" \
	  $(PY) tests/sanitized.py -m pytest -s -m "not slow" $(CSAN_TESTS) || exit 1; done
	EQPROP_TEST_BACKENDS="c numpy" $(PY) tests/sanitized.py -m tests.fuzz 60 0 kernels

# The sdist holds its tests and passes them where it is unpacked.
test-sdist: build
	rm -rf build/sdist && $(PY) setup.py -q sdist --dist-dir build/sdist
	tar -C build/sdist -xzf build/sdist/eqprop_fast-*.tar.gz
	$(PYTHON) -m venv build/sdist/venv
	cd build/sdist/eqprop_fast-*/ && ../venv/bin/python -m pip install -q --disable-pip-version-check -e ".[test]" \
	  && EQPROP_REQUIRE_C=1 ../venv/bin/python -m pytest -m "not slow" $(SDIST_TESTS)
SDIST_TESTS ?= tests/test_checks.py tests/test_circuits_exactness.py tests/test_import.py

# The threaded C kernels under the thread sanitizer.
tsan:
	$(MAKE) -C csrc/tests tsan

clean:
	rm -rf $(VENV) build *.egg-info eqprop_fast/_native*.so
