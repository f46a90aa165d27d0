# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TARGET ?= debian-12
TESTS ?= tests
LOCKED ?= 0
export CHECKPOINT_DISABLE := 1
# in an unpacked bundle, use its store and put the layers beside it
ifneq ($(wildcard carried/store),)
export VAULT_CUBE_CACHE ?= $(CURDIR)/carried
endif

VENV := .venv
STAMP := $(VENV)/.made
SALT_CALL := $(VENV)/bin/salt-call
export BUILDER := iproute2 mmdebstrap mount openssh-client
TESTER := e2fsprogs gcc git gnupg iptables libc6-dev shellcheck
PROVER := libfaketime
# a cache of `make lint` that another user has made
FOREIGN = $(shell { [ -w . ] || echo .; find .mypy_cache .ruff_cache .import_linter_cache ! -writable -print -quit; } 2>/dev/null)
SCANNER := openscap-scanner

.PHONY: help image boot test test-image test-slow lint docs docs-reference lock scan validate verify release rebuild-check master fleet-release benchmark bundle clean-cache clean

help: ## print this list
	@sed -nE 's/^([a-z-]+):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

# the stamp records that the environment is newer than its sources, so that a second `make` does nothing
$(STAMP): locks/checkout.lock scripts/venv.sh scripts/wheels.sh
	@sh scripts/venv.sh $(VENV)
	@touch $@

image: $(STAMP) ## build the golden image of TARGET in dist/ (LOCKED=1: fail if a locked file is gone; SIGN_KEY=FILE: sign)
	@sh scripts/image.sh $(TARGET) $(LOCKED)
	@[ -z "$(SIGN_KEY)" ] || $(SALT_CALL) image.sign $(SIGN_KEY) target=$(TARGET)

boot: $(STAMP) ## boot the image of TARGET, with ssh on a local port; the image is not changed
	@$(SALT_CALL) image.boot target=$(TARGET)

test: $(STAMP) ## run the unit, functional and chroot tests
	@sh scripts/apt.sh $(BUILDER) $(TESTER)
	@sh scripts/packer.sh || echo "tests that run Packer are skipped" >&2
	@sh scripts/unpacked.sh $(VENV)/debian prometheus prometheus-node-exporter cloud-init python3-configobj python3-six \
	  python3-jsonpatch python3-json-pointer
	$(VENV)/bin/pytest -m 'not image and not slow and not validate' tests

test-image: $(STAMP) ## test the image of TARGET and its layers; run `make image` first (TESTS=tests/boot: only these tests)
	VAULT_CUBE_TARGET=$(TARGET) $(VENV)/bin/pytest -m image --durations=10 $(TESTS)

test-slow: $(STAMP) ## run the slow tests: killed builds, a bare Debian, a stand-in for Ubuntu, Packer's vm, GPUs in guests
	@sh scripts/apt.sh $(BUILDER) $(TESTER) $(SCANNER)
	@sh scripts/packer.sh || echo "tests that run Packer are skipped" >&2
	VAULT_CUBE_TARGET=$(TARGET) $(VENV)/bin/pytest -m slow tests

lint: $(STAMP) ## run ruff, mypy, import-linter, salt-lint and shellcheck, and check that generated pages are not stale
	@sh scripts/apt.sh shellcheck
	$(VENV)/bin/ruff check $(if $(FOREIGN),--no-cache) .
	$(VENV)/bin/ruff format --check $(if $(FOREIGN),--no-cache) .
	$(VENV)/bin/mypy $(if $(FOREIGN),--cache-dir=/dev/null)
	$(VENV)/bin/lint-imports --no-logo $(if $(FOREIGN),--no-cache)
	@# 214: the name of a target, such as ubuntu-24.04, has a dot, and targets are included by path
	$(VENV)/bin/salt-lint -x 214 $$(find salt pillar -name '*.sls' ! -name local.sls)
	shellcheck .ci/run $$(find packer salt scripts tests vault_cube workloads -name '*.sh')
	@# fails if a generated page in docs/ is stale
	$(VENV)/bin/python scripts/reference.py --check

docs: $(STAMP) ## build the documentation site in build/docs/site, with search that works without a network
	@scripts/docs.sh build/docs

docs-reference: $(STAMP) ## write the generated pages of docs/ from the schema, the docstrings and the models
	@$(VENV)/bin/python scripts/reference.py

lock: $(STAMP) ## resolve every package of TARGET again and report the changes, the download size and the next command
	@$(SALT_CALL) image.lock target=$(TARGET)

master: $(STAMP) ## turn this machine into the master of a fleet (docs/fleet.md)
	@$(SALT_CALL) state.apply fleet

fleet-release: $(STAMP) ## on the fleet's master: make the release of COMMIT (default HEAD) for fleet.rollout (SIGN_KEY=FILE: sign it)
	@$(SALT_CALL) fleet.release $(or $(COMMIT),HEAD) $(if $(SIGN_KEY),sign_key=$(SIGN_KEY))

benchmark: $(STAMP) ## benchmark the frameworks of the built image on this machine, inside its tree; takes minutes
	@$(SALT_CALL) --retcode-passthrough image.benchmark quick=True target=$(TARGET)

verify: $(STAMP) ## build the image again from an empty cache in other conditions, and compare the bytes
	@sh scripts/apt.sh $(BUILDER) $(PROVER)
	@$(SALT_CALL) image.verify target=$(TARGET)

release: $(STAMP) ## build, verify and sign the image of TARGET with SIGN_KEY, and put it into dist/release/ with its notes
	@[ -n "$(SIGN_KEY)" ] || { echo "make release: name your ssh key: make release SIGN_KEY=…" >&2; exit 1; }
	@$(SALT_CALL) --out-file=/dev/null image.release "$(SIGN_KEY)" check=True target=$(TARGET)
	@$(MAKE) --no-print-directory image LOCKED=1 SIGN_KEY=
	@$(MAKE) --no-print-directory verify
	@$(SALT_CALL) image.release "$(SIGN_KEY)" target=$(TARGET)

rebuild-check: $(STAMP) ## rebuild the image or provenance FILE from its commit, compare, and sign the result with SIGN_KEY
	@[ -n "$(FILE)" ] && [ -n "$(SIGN_KEY)" ] || \
	  { echo "make rebuild-check: name the image and your ssh key: make rebuild-check FILE=… SIGN_KEY=…" >&2; exit 1; }
	@scripts/apt.sh $(BUILDER) $(PROVER)
	@$(SALT_CALL) image.rebuild_check "$(FILE)" "$(SIGN_KEY)"

scan: $(STAMP) ## scan the tree of the built image with OpenSCAP's CIS profiles and Lynis; a rule that got worse fails
	@sh scripts/apt.sh $(BUILDER) $(SCANNER)
	@$(SALT_CALL) --retcode-passthrough image.scan target=$(TARGET)

validate: $(STAMP) ## examine a box from inside and outside: HOST=USER@ADDRESS[:PORT] KEY=FILE; without HOST, the booted image
	@mkdir -p build/validate
	@VAULT_CUBE_HOST=$(HOST) VAULT_CUBE_KEY=$(KEY) VAULT_CUBE_TARGET=$(TARGET) $(VENV)/bin/pytest -q -p no:logging -m validate -o junit_family=xunit1 -o render_collapsed=none \
	  --junitxml=build/validate/junit.xml --html=build/validate/index.html --self-contained-html tests/boot/validate; \
	  status=$$?; [ $$status -gt 1 ] || echo "build/validate/index.html"; exit $$status

bundle: $(STAMP) ## pack checkout, locks and store into one archive that builds without a network (SIGN_KEY=FILE: sign it)
	@$(SALT_CALL) image.bundle "$(BUILDER) $(PROVER) python3-venv" target=$(TARGET)
	@[ -z "$(SIGN_KEY)" ] || $(SALT_CALL) image.sign $(SIGN_KEY) bundle=True target=$(TARGET)

clean-cache: $(STAMP) ## remove the store and the cached layers of all targets, and print the freed space
	@$(SALT_CALL) image.clean_cache

clean: ## remove build/ and dist/ of this checkout
	@sh scripts/writable.sh build dist
	rm -rf build dist
