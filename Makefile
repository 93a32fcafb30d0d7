# tproxy. `make help` lists what can be made; `make` alone makes the release binary.
#
# The same sources are built in three flavours, each with its objects in $(B)/<flavour>/obj/:
#   release   static, hardened, small                                  -> $(B)/tproxy
#   dev       AddressSanitizer and UndefinedBehaviorSanitizer, dynamic -> $(B)/dev/tproxy
#   dynamic   plain and dynamic, for valgrind and debuggers            -> $(B)/dynamic/tproxy
# Unit tests are linked with the objects of dev. Fuzz targets have a build of their own, by clang.

B ?= build
ifeq ($(origin CC),default)
CC = gcc
endif
CLANG ?= clang-14
# The prefix of an mbedTLS 3.6 built with lib/mbedtls_config.h. Empty: Debian's source is built.
MBEDTLS ?=
# GCM=mbedtls: mbedTLS does AES-GCM. Empty: lib/gcm.c does, on x86-64.
GCM ?=
ifneq ($(filter-out mbedtls,$(GCM)),)
$(error GCM is `mbedtls` or empty)
endif
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= 2
# T: one test (unit, integration, e2e: its file's name without test_) or fuzz target. K: pytest -k.
# S: seconds for each fuzz target. REPEAT: how often each unit test is run.
T ?=
K ?=
S ?= 60
REPEAT ?= 1
# STEPS, SEED: of chaos. Without SEED it takes one at random, and prints it.
STEPS ?= 500
SEED ?=

# One goal is made by $(JOBS) jobs; several goals one after the other.
ifeq ($(word 2,$(MAKECMDGOALS)),)
MAKEFLAGS += -j$(JOBS)
endif
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

FOLDERS := . admin btp cluster configuration controller core dest http k8s lib local oauth pop3 \
	tproxy
SOURCES := $(patsubst ./%,%,$(wildcard $(FOLDERS:%=%/*.c)))
HEADERS := $(patsubst ./%,%,$(wildcard $(FOLDERS:%=%/*.h)))
UNIT := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
# Tests over the simulated world are linked with it, and with its toy TLS instead of lib/tls.
SIMULATION := tests/unit/simulation/sim.c tests/unit/simulation/fake_tls.c
SIMULATED := $(shell grep -ls '"tests/unit/simulation/sim.h"' $(wildcard tests/unit/test_*.c))
FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
ifneq ($(T),)
UNIT := $(filter test_$(T),$(UNIT))
FUZZ := $(filter fuzz_$(T),$(FUZZ))
endif
TEST_SOURCES := $(wildcard tests/*/*.[ch] tests/unit/*/*.[ch] bench/*.[ch])

WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wvla \
	-Wformat=2
ifdef WERROR
WARNINGS += -Werror
endif
LANGUAGE = -std=c17 -D_GNU_SOURCE -I. -isystem $(B)/mbedtls/include \
	-DMBEDTLS_CONFIG_FILE='"lib/mbedtls_config.h"' $(GCM:mbedtls=-DTPROXY_GCM_MBEDTLS)
HARDENING = -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fno-plt
SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# The compiler of a flavour, and its flags for compiling and for linking.
compiler = $(CC)
$(B)/release/%: flavour = -O2 -g -fPIE -ffunction-sections -fdata-sections $(HARDENING)
$(B)/tproxy: flavour = -O2 -static-pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections
$(B)/dev/%: flavour = -O1 -g $(SANITIZERS)
$(B)/dynamic/%: flavour = -O1 -g
$(B)/fuzz/%: compiler = $(CLANG)
$(B)/fuzz/obj/%: flavour = -O1 -g -fsanitize=fuzzer-no-link $(SANITIZERS)
$(B)/fuzz/fuzz_%: flavour = -fsanitize=fuzzer $(SANITIZERS)

# V=1 shows whole commands.
say = $(if $(V),,@echo '  $(1)	$(@:$(B)/%=%)';)
compile = $(call say,CC)$(compiler) $(LANGUAGE) $(WARNINGS) $(flavour) $(CFLAGS) -MMD -MP \
	-c $< -o $@
link = $(call say,LINK)$(compiler) $(flavour) $(LDFLAGS) \
	$(filter-out $(other_worlds),$(filter %.o,$^)) $(libraries) -o $@
# The archives refer to each other: tproxy calls mbedTLS, which asks tproxy for random bytes.
# lib/tls_chain.c stands in for two functions of mbedTLS.
libraries = -Wl,--wrap=mbedtls_x509_crt_parse_der -Wl,--wrap=mbedtls_x509_crt_verify_with_ca_cb \
	-Wl,--start-group $(filter %.a,$^) $(wildcard $(B)/mbedtls/lib/libmbed*.a) -Wl,--end-group

##@ Building
.PHONY: all dev dynamic
all: $(B)/tproxy ## the release binary: static, hardened (also just `make`)
dev: $(B)/dev/tproxy ## the same with AddressSanitizer and UndefinedBehaviorSanitizer
dynamic: $(B)/dynamic/tproxy ## the same for valgrind and debuggers

$(B)/tproxy: $(B)/release/obj/tproxy.o $(B)/release/libtproxy.a
	$(link)

$(B)/dev/tproxy $(B)/dynamic/tproxy: $(B)/%/tproxy: $(B)/%/obj/tproxy.o $(B)/%/libtproxy.a
	$(link)

# Everything but main(). (ar q: it does not matter that files of two folders have the same name.)
ARCHIVED := $(filter-out tproxy.o,$(SOURCES:.c=.o))
$(foreach f,release dev dynamic fuzz,$(eval $(B)/$f/libtproxy.a: $(ARCHIVED:%=$(B)/$f/obj/%)))
$(B)/%/libtproxy.a:
	$(call say,AR)rm -f $@; $(AR) qcs $@ $^

# The rule of a flavour's objects. 1: the flavour, 2: how deps.sh calls what its compiler is for.
define objects
$(B)/$(1)/obj/%.o: %.c $(B)/ready/mbedtls | $(B)/ready/$(2)
	@mkdir -p $$(@D)
	$$(compile)
endef
$(foreach f,release dev dynamic,$(eval $(call objects,$f,build)))
$(eval $(call objects,fuzz,fuzz))

# The version is compiled into one file, and only there; a new one recompiles it.
$(B)/%/obj/tproxy/options.o: LANGUAGE += -DTPROXY_VERSION='"$(VERSION)"'
$(foreach f,release dev dynamic,$(B)/$f/obj/tproxy/options.o): $(B)/ready/version
$(B)/ready/version: always
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' >$@
.PHONY: always

# Files below $(B)/ready say what this machine has. Purposes of deps.sh:
$(B)/ready/build $(B)/ready/test $(B)/ready/lint $(B)/ready/fuzz $(B)/ready/bench $(B)/ready/demo \
		$(B)/ready/image $(B)/ready/cluster $(B)/ready/e2e: $(B)/ready/%: scripts/deps.sh
	@mkdir -p $(@D)
	scripts/deps.sh $*
	@touch $@

$(B)/ready/mbedtls: lib/mbedtls_config.h lib/gcm_alt.h scripts/build-mbedtls.sh \
		$(B)/ready/mbedtls-choice | $(B)/ready/build
	@mkdir -p $(@D)
	ln -sfnT "$(or $(MBEDTLS),$$(CC='$(CC)' GCM='$(GCM)' scripts/build-mbedtls.sh $<))" $(B)/mbedtls
	@test -e $(B)/mbedtls/include/mbedtls/ssl.h
	@touch $@
$(B)/ready/mbedtls-choice: always
	@mkdir -p $(@D)
	@echo '$(MBEDTLS) $(GCM)' | cmp -s - $@ || echo '$(MBEDTLS) $(GCM)' >$@

$(B)/ready/venv: tests/requirements.txt | $(B)/ready/test
	@mkdir -p $(@D)
	rm -rf $(B)/venv
	python3 -m venv $(B)/venv
	$(B)/venv/bin/pip install --quiet --requirement $<
	@touch $@

# Node finds modules beside the program that asks for them.
$(B)/ready/standins: $(wildcard tests/standins/*) tests/standins/.npmrc | $(B)/ready/test
	@mkdir -p $(@D)
	rm -rf $(B)/standins
	cp -r tests/standins $(B)/standins
	cd $(B)/standins && npm ci --loglevel=error
	@touch $@

##@ Testing
.PHONY: test unit integration cluster-test chaos e2e fuzz
tested = $(B)/tproxy $(B)/dev/tproxy $(B)/dynamic/tproxy $(B)/tproxy-image.tar
# The parts run one after the other and none stops the others; the last line adds them up.
test: ## all tests; ends with `N passed, N failed`
test: $(B)/ready/venv $(B)/ready/standins $(B)/ready/cluster $(B)/ready/e2e $(tested) unit-programs
	rm -rf $(B)/results
	-$(run_tools)
	-$(run_unit)
	-$(run_integration)
	-$(run_cluster)
	-$(run_e2e)
	@scripts/run-tests sum $(B)/results

unit: ## unit tests and the corpora of the fuzz targets (T=json: one; REPEAT=200: so often)
unit: unit-programs $(B)/ready/venv
	$(run_unit)

integration: ## the binaries against real servers and clients (T=file K=name)
integration: $(B)/ready/venv $(B)/ready/standins $(tested)
	$(run_integration)

cluster-test: ## the same in a Kubernetes cluster (T=file K=name)
cluster-test: $(B)/ready/venv $(B)/ready/standins $(B)/ready/cluster $(tested)
	$(run_cluster)

chaos: ## random changes and faults around two replicas in a cluster (STEPS=500 SEED=n)
chaos: T = cluster_chaos
chaos: export CHAOS_STEPS = $(STEPS)
chaos: export CHAOS_SEED = $(or $(SEED),random)
chaos: $(B)/ready/venv $(B)/ready/standins $(B)/ready/cluster $(B)/dev/tproxy
	scripts/build-cluster.sh >/dev/null
	$(call run_pytest,chaos,chaos)

e2e: ## the image in a cluster with nodes, DNS and clients in pods; as root (T=file K=name)
e2e: $(B)/ready/venv $(B)/ready/standins $(B)/ready/cluster $(B)/ready/e2e $(B)/tproxy-image.tar
	$(run_e2e)

run_tools = B=$(B) scripts/run-tests programs $(B)/results/tools.json \
	tests/scripts/test_check_deps.py
run_unit = PATH="$(abspath $(B)/venv/bin):$$PATH" scripts/run-tests programs \
	$(B)/results/unit.json --jobs $(JOBS) --repeat $(REPEAT) $(UNIT:%=$(B)/dev/tests/unit/%) \
	$(FUZZ:%=$(B)/dev/tests/fuzz/%)
run_integration = $(call run_pytest,integration,not cluster)
# Without a control plane its tests fail, and are counted.
run_cluster = scripts/build-cluster.sh >/dev/null; $(call run_pytest,cluster,cluster and not chaos)
# The result's name, and which tests by their marks.
run_pytest = TPROXY_BIN=$(abspath $(B)/tproxy) TPROXY_DEV_BIN=$(abspath $(B)/dev/tproxy) \
	TPROXY_DYNAMIC_BIN=$(abspath $(B)/dynamic/tproxy) TPROXY_IMAGE=$(abspath $(B)/tproxy-image.tar) \
	TPROXY_STANDINS=$(abspath $(B)/standins) \
	scripts/run-tests pytest $(B)/results/$(1).json $(B)/venv/bin/python -n $(JOBS) -m '$(2)' \
	$(if $(K),-k '$(K)') tests/integration$(if $(T),/test_$(T).py)

# Without the programs its tests fail, and are counted.
run_e2e = scripts/build-cluster.sh >/dev/null; scripts/build-cluster.sh node >/dev/null; \
	TPROXY_IMAGE=$(abspath $(B)/tproxy-image.tar) TPROXY_STANDINS=$(abspath $(B)/standins) \
	scripts/run-tests pytest $(B)/results/e2e.json $(B)/venv/bin/python \
	$(if $(K),-k '$(K)') tests/e2e$(if $(T),/test_$(T).py)

.PHONY: unit-programs
unit-programs: $(UNIT:%=$(B)/dev/tests/unit/%) $(FUZZ:%=$(B)/dev/tests/fuzz/%)

# Worlds that several tests share. Each test is linked with those whose headers it includes, as its
# .d file tells.
WORLDS := $(patsubst %.c,$(B)/dev/obj/%.o,$(wildcard tests/unit/world/*.c))
$(WORLDS) $(patsubst %.c,$(B)/dev/obj/%.o,$(wildcard tests/unit/*.c tests/unit/simulation/*.c)): | \
		$(B)/ready/test
$(SIMULATED:%.c=$(B)/dev/%): $(SIMULATION:%.c=$(B)/dev/obj/%.o)
$(B)/dev/tests/unit/test_%: other_worlds = $(filter-out $(shell \
	sed -n 's,^\(tests/unit/world/.*\)\.h:$$,$(B)/dev/obj/\1.o,p' $(<:.o=.d)),$(WORLDS))
$(B)/dev/tests/unit/test_%: $(B)/dev/obj/tests/unit/test_%.o $(WORLDS) $(B)/dev/libtproxy.a
	@mkdir -p $(@D)
	$(link) -lcmocka

# AES-GCM is compared with mbedTLS's own and with OpenSSL's.
$(B)/dev/tests/unit/test_gcm: LDFLAGS += $(B)/mbedtls/lib/reference_gcm.o
$(B)/dev/tests/unit/test_gcm: libraries += -lcrypto

# The actors of the simulation. It cuts TLS records at any byte, which needs a TLS of its own.
$(B)/dev/tests/unit/test_simulation: $(SIMULATION:%.c=$(B)/dev/obj/%.o) \
	$(patsubst %.c,$(B)/dev/obj/%.o,$(wildcard tests/unit/simulation/play_*.c))

# A fuzz target without libFuzzer: replay.c feeds it its corpus.
$(B)/dev/tests/fuzz/fuzz_%: $(B)/dev/obj/tests/fuzz/fuzz_%.o $(B)/dev/obj/tests/fuzz/replay.o \
		$(B)/dev/libtproxy.a
	@mkdir -p $(@D)
	$(link)

# The HTTP client is fuzzed in the simulated world.
$(B)/dev/tests/fuzz/fuzz_http_client: $(B)/dev/obj/tests/unit/simulation/sim.o
$(B)/fuzz/fuzz_http_client: $(B)/fuzz/obj/tests/unit/simulation/sim.o

fuzz: $(FUZZ:%=fuzz-run-%) ## each fuzz target for S=60 seconds (T=url: one)
.PHONY: $(FUZZ:%=fuzz-run-%)
$(FUZZ:%=fuzz-run-%): fuzz-run-fuzz_%: $(B)/fuzz/fuzz_%
	@mkdir -p $(B)/fuzz/found/$* $(B)/fuzz/corpus/$*
	$< -max_total_time=$(S) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
		$(addprefix -dict=,$(wildcard tests/fuzz/$*.dict)) \
		-artifact_prefix=$(B)/fuzz/found/$*/ $(B)/fuzz/corpus/$* \
		$(wildcard tests/fuzz/corpus/$*)

$(B)/fuzz/fuzz_%: $(B)/fuzz/obj/tests/fuzz/fuzz_%.o $(B)/fuzz/libtproxy.a
	$(link)

##@ Checking
.PHONY: lint format check-deps check-source
FORMATTED := $(SOURCES) $(HEADERS) $(TEST_SOURCES)
COMPILED := $(filter %.c,$(FORMATTED))
lint: ## formatting, includes and calls, clang-tidy, gcc and clang with -Werror
lint: check-deps check-source $(FORMATTED:%=$(B)/lint/%.format) $(HEADERS:%=$(B)/lint/%.alone) \
		$(foreach check,gcc clang tidy,$(COMPILED:%=$(B)/lint/%.$(check)))
	@echo lint: clean

check-deps: ## which files use which, by the tables in scripts/check-deps
check-deps: $(SOURCES:%.c=$(B)/dev/obj/%.o)
	@scripts/check-deps . $(B)/dev/obj

check-source: ## functions and habits that are banned
	@scripts/check-source $(FORMATTED)

format: | $(B)/ready/lint ## run clang-format over all sources
	clang-format-14 -i $(FORMATTED)

# A file's checks are repeated when it, a header, or the rules change.
lint_needs = $(HEADERS) $(filter %.h,$(TEST_SOURCES)) $(B)/ready/mbedtls | $(B)/ready/lint
$(B)/lint/%.format: % .clang-format | $(B)/ready/lint
	@mkdir -p $(@D)
	@clang-format-14 --dry-run -Werror $< && touch $@
$(B)/lint/%.gcc: % $(lint_needs)
	@mkdir -p $(@D)
	@$(CC) $(LANGUAGE) $(WARNINGS) -Werror -O2 -c $< -o /dev/null && touch $@
$(B)/lint/%.clang: % $(lint_needs)
	@mkdir -p $(@D)
	@$(CLANG) $(LANGUAGE) $(WARNINGS) -Werror -O2 -c $< -o /dev/null && touch $@
$(B)/lint/%.alone: % $(lint_needs)
	@mkdir -p $(@D)
	@echo '#include "$<"' | $(CLANG) $(LANGUAGE) $(WARNINGS) -Werror -fsyntax-only -x c - && touch $@
$(B)/lint/%.tidy: % .clang-tidy $(lint_needs)
	@mkdir -p $(@D)
	$(call say,TIDY)clang-tidy-14 --quiet --warnings-as-errors='*' $< -- $(LANGUAGE) 2>$@.err || \
		{ cat $@.err; exit 1; }
	@touch $@

##@ Delivering
.PHONY: image
image: $(B)/tproxy-image.tar ## the container image, an OCI archive, with buildah

$(B)/tproxy-image.tar: $(B)/tproxy Containerfile scripts/build-image.sh | $(B)/ready/image
	$(call say,IMAGE)scripts/build-image.sh $< '$(VERSION)' $@

##@ Running
.PHONY: demo bench bench-gcm bench-cluster
demo: $(B)/ready/demo $(B)/tproxy ## a mailbox, tproxy in front of it, and a telnet session
	B=$(B) scripts/demo.sh

bench: $(B)/ready/bench $(B)/tproxy ## compare with HAProxy, nginx, Dovecot, Perdition (ARGS=...)
	B=$(B) CC=$(CC) python3 bench/run.py --build $(B) $(ARGS)

bench-gcm: $(B)/bench-gcm ## AES-GCM by length, beside OpenSSL (GCM=mbedtls: that of mbedTLS)
	$<
$(B)/bench-gcm: flavour = -O2
$(B)/bench-gcm: libraries += -lcrypto
$(B)/bench-gcm: $(B)/release/obj/bench/gcm.o $(B)/release/libtproxy.a
	$(link)
$(B)/release/obj/bench/gcm.o: | $(B)/ready/bench

bench-cluster: ## tproxy in a cluster with 10,000 custom resources (ARGS=...)
bench-cluster: $(B)/ready/venv $(B)/ready/standins $(B)/ready/cluster $(B)/tproxy
	TPROXY_STANDINS=$(abspath $(B)/standins) $(B)/venv/bin/python bench/cluster.py --build $(B) $(ARGS)

##@ The rest
.PHONY: deps install clean help mbedtls-update
deps: ## install all Debian packages that any of the goals needs
	scripts/deps.sh build test cluster e2e lint fuzz bench demo image

install: $(B)/tproxy ## copy the release binary to $(DESTDIR)$(PREFIX)/bin
	install -D -m 755 $(B)/tproxy $(DESTDIR)$(PREFIX)/bin/tproxy

mbedtls-update: | $(B)/ready/build ## look for a newer mbedTLS 3.6 in Debian
	scripts/build-mbedtls.sh --newest lib/mbedtls_config.h
	rm -f $(B)/ready/mbedtls

clean: ## remove $(B)
	rm -rf $(B)

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nVariables: B=%s CC=%s MBEDTLS=%s GCM=%s PREFIX=%s JOBS=%s T= K= S=%s WERROR=1\n' \
		'$(B)' '$(CC)' '$(MBEDTLS)' '$(GCM)' '$(PREFIX)' '$(JOBS)' '$(S)'

-include $(shell find $(B) -name '*.d' -not -path '*/venv/*' -not -path '*/standins/*' 2>/dev/null)
