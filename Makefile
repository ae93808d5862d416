# Two commands are all that a newcomer needs: `make demo` and `make test`. Both install what they
# need, say what, and are quick the second time.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TARGET := --board orangepi5b --os debian-12 --from wheel
SCRIPTS := .ci/run $(wildcard templates/*.sh templates/*/*.sh)

# Root needs nothing; others get sudo where there is one, and are told what to run where not.
IS_ROOT := $(filter 0,$(shell id -u))
SUDO := $(if $(IS_ROOT),,$(shell command -v sudo))
CAN_INSTALL := $(and $(shell command -v apt-get),$(or $(IS_ROOT),$(SUDO)))
APT_INSTALL := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends

# What tests use on top: compilers for files to check and for a stand-in NPU library, zstd to open
# packages with another hand, curl as a workflow uses it, and what lets an ordinary user make a root.
TEST_PACKAGES := curl gcc libc6-dev uidmap zstd
# The stand-ins of upstream's repositories are built for this machine; a package of each format is
# opened by the program that it is for.
TEST_PACKAGES += build-essential ccache cmake docker.io docker-registry dpkg-dev libarchive-dev \
	libboost1.81-dev libnuma-dev libssl-dev python3-dev python3-numpy rapidjson-dev zlib1g-dev
# Machines that compile, and a cache that machines share: tests run their servers themselves.
TEST_PACKAGES += distcc redis-server
# A board to deploy to, whose sshd tests run themselves; systemd checks units.
TEST_PACKAGES += busybox openssh-client openssh-server rsync sudo systemd
ifneq ($(shell uname -m),aarch64)
TEST_PACKAGES += g++-aarch64-linux-gnu libc6-dev-arm64-cross
endif

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: deps ## build an arm64 Triton from wheels and see it answer
	$(BIN)/tritonbuild build $(TARGET)
	$(BIN)/tritonbuild smoke
	@echo
	@echo "The server lies in build/ and has just answered. How to go on:"
	@echo "  . $(BIN)/activate                      then, from this folder:"
	@echo "  tritonbuild package                    one file to unpack on the board, as /opt/tritonserver"
	@echo "  tritonbuild smoke --json               the same checks for a script"
	@echo "  tritonbuild plan --board orangepi5b    what a build from source would do, and why"
	@echo "  tritonbuild list                       other boards, releases and components"

# The source path as a whole, where upstream's repositories cannot be reached: docs/stand-ins.md.
STANDINS := build/standins
STANDIN_ORT := $(STANDINS)/archives/github.com/microsoft/onnxruntime/releases/download/v1.16.3
.PHONY: demo-source
demo-source: deps test-deps ## build stand-ins of Triton for arm64 from source, see it answer
	$(BIN)/python tests/upstream/materialise.py --machine aarch64 $(STANDINS)
	$(BIN)/tritonbuild build --board orangepi5b --os debian-12 --executor emulated \
		--recipes $(STANDINS)/recipes --mirror standins --set core.TRITON_ENABLE_GRPC=OFF \
		--archive onnxruntime=$(STANDIN_ORT)/onnxruntime-linux-aarch64-1.16.3.tgz
	$(BIN)/tritonbuild smoke

# What is ready in its own time shares the cores, the longest first. Emulated servers come one after
# the other: side by side they meet their time limits now and then.
ALONE := $(wildcard tests/integration/test_ci_steps.py tests/integration/test_smoke.py \
	tests/integration/test_quickstart.py tests/integration/test_serve.py \
	tests/integration/test_archive.py tests/integration/test_verify.py \
	tests/integration/test_package_formats.py tests/backends)
LONGEST := $(addprefix tests/integration/test_,buildx.py source_faults.py deploy.py for_the_board.py)
BUILDS := $(LONGEST) $(filter-out $(ALONE) $(LONGEST),$(wildcard tests/integration/test_*.py))
SIDE_BY_SIDE := $(BUILDS) tests/unit tests/docs
.PHONY: test
test: deps test-deps ## run all tests
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
		$(SIDE_BY_SIDE)
	$(BIN)/python -m pytest $(ALONE)
endif

.PHONY: lint
lint: venv ## check style, types and shell scripts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/shellcheck --shell=bash $(SCRIPTS)

.PHONY: bench
bench: deps ## measure start-up, planning and inference
	$(BIN)/python benchmarks/run.py

.PHONY: deps
deps: venv ## install the Debian packages that are missing
	$(BIN)/tritonbuild doctor --fix $(TARGET)

# Tests skip what is missing; with CI=true they fail.
.PHONY: test-deps
test-deps: deps
	@missing=; for package in $(TEST_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -q '^installed' \
			|| missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ -z "$(CAN_INSTALL)" ]; then \
		echo "some tests will be skipped; as root, run: apt-get install$$missing" >&2; exit 0; \
	fi; \
	echo "installing Debian packages for tests:$$missing"; \
	$(APT_INSTALL) $$missing || { $(SUDO) apt-get update && $(APT_INSTALL) $$missing; }

.PHONY: venv
venv: $(READY) ## make .venv with everything in it

# --group needs pip 25.1, newer than what Python brings along.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed; say which: make PYTHON=python3.11" >&2; exit 4; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory venv-module
	@echo "installing into $(VENV): tritonbuild, what it uses, and what its tests use"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[grpc]' --group dev
	@touch $@

# Debian keeps the module that makes virtual environments in a package of its own.
.PHONY: venv-module
venv-module:
ifneq ($(CAN_INSTALL),)
	@echo "installing the Debian package: python3-venv"
	$(SUDO) apt-get update
	$(APT_INSTALL) python3-venv
else
	@echo "$(PYTHON) cannot make virtual environments; as root, run: apt-get install python3-venv" >&2
	@exit 4
endif

.PHONY: clean
clean: ## delete what was built here; the cache of downloads stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis $(VENV)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
