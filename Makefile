# make serve      a chat page and an API, for the model that ships in the package
# make chat       talk with the model that ships in the package
# make test       the laws, without the slow ones
# make check      lint, types, import contracts, make test
# make test-all   make check with the slow tests too: what CI runs
# make bench      the benchmarks, each a ratio to a peer
# make bench-peers the engine against llama.cpp, OpenVINO, transformers and vLLM: docs/performance.md
# make families   write docs/families.md anew, after a change of a family's page
# make install    .venv with the package and all extras (every target above does this first)
# make lock       resolve anew and rewrite constraints.txt
# make clean      remove what make made
#
# make TORCH_INDEX=URL ...   take torch from this index: the CPU build is 0.2 GB, Linux's default 2.7
# make PYTHON=python3.12 ... use this interpreter          make chat ARGS="--model DIR"   options for malmoi chat, serve
# make TEST_JOBS=8 ...       test processes at once

TORCH_INDEX ?=
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
ARGS ?=
TEST_JOBS ?= 2

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALLED := .venv/.installed
say = @printf '\033[1m== %s\033[0m\n'
PYTEST := $(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal

.PHONY: install serve chat test check lint types contracts test-all bench bench-peers families lock clean
.DELETE_ON_ERROR:

install: $(INSTALLED)
	$(say) "install: done; .venv/bin/malmoi --help"

serve: $(INSTALLED)
	@$(BIN)/malmoi serve $(ARGS)

chat: $(INSTALLED)
	@$(BIN)/malmoi chat $(ARGS)

test: $(INSTALLED)
	$(say) "test: the laws"
	@$(PYTEST) -m "not slow"

check: lint types contracts test

test-all: lint types contracts
	$(say) "test-all: the laws, slow ones too"
	@$(PYTEST) --durations 10

lint: $(INSTALLED)
	$(say) "lint: ruff"
	@$(BIN)/ruff check

types: $(INSTALLED)
	$(say) "types: mypy --strict"
	@$(BIN)/mypy

contracts: $(INSTALLED)
	$(say) "contracts: which package may import which"
	@$(BIN)/lint-imports

bench: $(INSTALLED)
	@for name in train startup attention; do \
		printf '\033[1m== bench/%s.py\033[0m\n' $$name; $(BIN)/python bench/$$name.py || exit 1; done

bench-peers: $(INSTALLED)
	$(say) "bench-peers: long, and longer the first time: an environment for each peer in build/peers"
	@$(BIN)/python bench/engine.py --write $(ARGS)

families: $(INSTALLED)
	@$(BIN)/python runs/families.py

clean:
	$(say) "clean: .venv, build/, dist/, caches"
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find src tests bench -type d -name __pycache__ -prune -exec rm -rf {} +

# --- the environment ---

.venv/bin/python:
	@for python in $(PYTHON); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		printf '\033[1m== install: making .venv with %s\033[0m\n' "$$($$python --version)"; \
		$$python -m venv .venv && exit; \
		rm -rf .venv; \
		echo "make: $$python cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	done; \
	echo 'make: Malmoi needs Python 3.11 or newer, and found none. Install one, or say where: make PYTHON=PATH' >&2; \
	echo 'make: 파이썬 3.11 이상이 필요합니다. 설치하거나 make PYTHON=경로 로 알려 주세요.' >&2; \
	exit 1

$(INSTALLED): pyproject.toml constraints.txt $(wildcard csrc/*) | .venv/bin/python
	@$(PIP) install --upgrade 'pip>=25'
ifneq ($(TORCH_INDEX),)
	$(say) "install: torch from $(TORCH_INDEX)"
	@$(PIP) install --no-deps --constraint constraints.txt --index-url '$(TORCH_INDEX)' torch
else
	@if $(PIP) install --dry-run --no-deps --constraint constraints.txt --report - torch 2>/dev/null \
		| grep -qE '^ *"(nvidia|cuda)-.*Linux' && [ "$$(uname -sm)" = "Linux x86_64" ]; then $(say_cuda); fi
endif
	$(say) "install: malmoi and its extras into .venv (minutes, the first time)"
	@$(PIP) install --constraint constraints.txt --editable '.[test]'
	@touch $@

define say_cuda
printf '%s\n' \
	'make: the default package index gives torch with its CUDA libraries: 2.7 GB to download, going on.' \
	'      For the CPU build (0.2 GB), stop here with Ctrl-C and run: make clean; make install TORCH_INDEX=URL' \
	'      with the URL of the CPU wheel index that the PyTorch site shows under "Get Started" (Pip, CPU).' \
	'make: 기본 패키지 저장소의 torch는 CUDA 라이브러리까지 2.7 GB를 내려받습니다. 이대로 계속합니다.' \
	'      CPU용(0.2 GB)만 원하면 Ctrl-C로 멈추고: make clean; make install TORCH_INDEX=주소' \
	'      주소는 파이토치 누리집의 "Get Started"에서 Pip, CPU를 고르면 나오는 wheel 색인입니다.'
endef

# What the tests run with, whole. No index, and no "+cpu": the CPU and the CUDA build of a version both fit.
lock: .venv/bin/python
	$(say) "lock: resolving pyproject.toml anew (torch from TORCH_INDEX, if given)"
	@rm -rf build/lock && $(BIN)/python -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --upgrade 'pip>=25'
	@$(if $(TORCH_INDEX),build/lock/bin/python -m pip install --quiet --no-deps --index-url '$(TORCH_INDEX)' torch)
	@build/lock/bin/python -m pip install --quiet '.[test]'
	@{ sed '/^[^#]/,$$d' constraints.txt; build/lock/bin/python -m pip freeze --all --exclude malmoi --exclude pip \
		| grep -vE '^(nvidia|cuda)-|^triton=' | sed 's/+[a-z0-9.]*$$//'; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/lock
