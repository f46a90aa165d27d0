# The front door. `make help` lists what it opens.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TARGET ?= debian-12
TESTS ?= tests
LOCKED ?= 0
export CHECKPOINT_DISABLE := 1
# an unpacked bundle: the store that it carries, and the layers beside it
ifneq ($(wildcard carried/store),)
export VAULT_CUBE_CACHE ?= $(CURDIR)/carried
endif

VENV := .venv
STAMP := $(VENV)/.made
SALT_CALL := $(VENV)/bin/salt-call
BUILDER := iproute2 mmdebstrap openssh-client
TESTER := shellcheck
PROVER := libfaketime

.PHONY: help image boot test test-image test-slow lint docs-reference lock verify benchmark bundle clean-cache clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

# The stamp is newer than what it was made of; a second `make` does nothing here.
$(STAMP): locks/checkout.lock scripts/venv.sh
	@scripts/venv.sh $(VENV)
	@touch $@

image: $(STAMP) ## the golden image of TARGET, in dist/ (LOCKED=1: exactly the lock, or an error; SIGN_KEY=FILE signs it)
	@scripts/image.sh $(TARGET) $(LOCKED)
	@[ -z "$(SIGN_KEY)" ] || $(SALT_CALL) image.sign $(SIGN_KEY) target=$(TARGET)

boot: $(STAMP) ## boot the image of TARGET: ssh on a local port, serial console; the image does not change
	@$(SALT_CALL) image.boot target=$(TARGET)

test: $(STAMP) ## unit, functional and chroot tests
	@scripts/apt.sh $(BUILDER) $(TESTER)
	@scripts/packer.sh || echo "tests that run Packer are skipped" >&2
	@scripts/unpacked.sh $(VENV)/debian prometheus prometheus-node-exporter
	$(VENV)/bin/pytest -m 'not image and not slow' tests

test-image: $(STAMP) ## boots the image of TARGET and enters its layers; `make image` comes first (TESTS=tests/boot: a part)
	VAULT_CUBE_TARGET=$(TARGET) $(VENV)/bin/pytest -m image --durations=10 $(TESTS)

test-slow: $(STAMP) ## what takes long: kills, wrong input to whole builds, Packer's vm, GPUs in a guest's containers
	@scripts/apt.sh $(BUILDER)
	@scripts/packer.sh || echo "tests that run Packer are skipped" >&2
	VAULT_CUBE_TARGET=$(TARGET) $(VENV)/bin/pytest -m slow tests

lint: $(STAMP) ## ruff, mypy, salt-lint, shellcheck, generated pages
	@scripts/apt.sh $(TESTER)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	@# 214: a target is named like its release, ubuntu-24.04, and included by path
	$(VENV)/bin/salt-lint -x 214 $$(git ls-files 'salt/*.sls' 'pillar/*.sls')
	shellcheck $$(git ls-files '*.sh' .ci/run)
	@# no page in docs/ that is generated is older than its sources
	$(VENV)/bin/python scripts/reference.py --check

docs-reference: $(STAMP) ## write docs/pillar.md from the schema and docs/commands.md from the docstrings
	@$(VENV)/bin/python scripts/reference.py

lock: $(STAMP) ## resolve every package of TARGET again; reports what moved, what to download, and what comes next
	@$(SALT_CALL) image.lock target=$(TARGET)

benchmark: $(STAMP) ## what the built image's frameworks do on this machine, in minutes, inside its tree
	@$(SALT_CALL) --retcode-passthrough image.benchmark quick=True target=$(TARGET)

verify: $(STAMP) ## build again from nothing, elsewhere and otherwise, and compare
	@scripts/apt.sh $(BUILDER) $(PROVER)
	@$(SALT_CALL) image.verify target=$(TARGET)

bundle: $(STAMP) ## checkout, locks and store in one archive: `make image` from it needs no network (SIGN_KEY=FILE)
	@$(SALT_CALL) image.bundle "$(BUILDER) $(PROVER) python3-venv" target=$(TARGET)
	@[ -z "$(SIGN_KEY)" ] || $(SALT_CALL) image.sign $(SIGN_KEY) bundle=True target=$(TARGET)

clean-cache: $(STAMP) ## remove store and layers of all targets, and say what that frees
	@$(SALT_CALL) image.clean_cache

clean: ## remove what this checkout made: build/ and dist/
	rm -rf build dist
