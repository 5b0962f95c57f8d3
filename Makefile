# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# One file, not recursive. `make help` lists the targets; products go to $(BUILD).

BUILD ?= build
VERSION := 0.1.0
CLANG ?= clang
PREFIX ?= /usr/local
SAN := -fsanitize=address,undefined -fno-sanitize-recover=all

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wwrite-strings
INC := -Iinclude -Iuser -I$(BUILD)/skel
CFLAGS := -std=gnu11 -O2 -g -fno-omit-frame-pointer -fno-strict-aliasing -D_GNU_SOURCE -DSHUNT_VERSION='"$(VERSION)"' -include include/shunt/banned.h $(WARN) $(INC) $(EXTRA_CFLAGS)
BPF_CFLAGS := -target bpf -mcpu=v3 -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -Iinclude -Ibpf \
	-idirafter /usr/include/$(shell uname -m)-linux-gnu
LDFLAGS := $(EXTRA_LDFLAGS)
# Short lines, or `make V=1`.
Q := $(if $(V),,@)
say = $(if $(V),,@printf "  %-5s %s\n" $(1) $@)

CORE := $(wildcard user/core/*.c)
COMMON := $(wildcard user/common/*.c)
COMMON_PURE := $(filter-out %/pins.c,$(COMMON)) # without libbpf
SHUNTD := $(wildcard user/shuntd/*.c)
AGENT := $(wildcard user/agent/*.c)
SHUNT := $(wildcard user/shunt/*.c)
BPF := $(wildcard bpf/*.bpf.c)
TEST_BPF := $(wildcard tests/*/*.bpf.c)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/*_test.c))
PACKET := $(patsubst tests/packet/%.c,$(BUILD)/tests/packet/%,$(wildcard tests/packet/*_test.c))
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/bench_*.c))
LIBTOOLS := $(patsubst tests/lib/%.c,$(BUILD)/tests/lib/%,$(filter-out %.bpf.c,$(wildcard tests/lib/*.c)))

SKELS := $(patsubst bpf/%.bpf.c,$(BUILD)/skel/%.skel.h,$(BPF)) \
	$(foreach b,$(TEST_BPF),$(BUILD)/skel/$(notdir $(b:.bpf.c=.skel.h))) $(BUILD)/skel/page.h
obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

.PHONY: all help demo check check-deb check-kernels deb bench bench-bfd bench-datapath bench-failover bench-faults bench-flows bench-ops bench-packages bench-tables lint install clean tests
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/shuntd $(BUILD)/shunt-agent $(BUILD)/shunt ## build the programs

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

# ---- packages, by name, only those missing ----
$(BUILD)/.deps-%: tools/deps
	@mkdir -p $(BUILD)
	@tools/deps $*
	@touch $@

# ---- BPF objects and their skeletons ----
$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c | $(BUILD)/.deps-build
	@mkdir -p $(@D)
	$(call say,CLANG)
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -c $< -o $@
define TEST_BPF_RULE
$(BUILD)/bpf/$(notdir $(1:.c=.o)): $(1) | $(BUILD)/.deps-build
	@mkdir -p $$(@D)
	$$(call say,CLANG)
	$$(Q)$$(CLANG) $$(BPF_CFLAGS) -MMD -MP -c $$< -o $$@
endef
$(foreach b,$(TEST_BPF),$(eval $(call TEST_BPF_RULE,$(b))))
$(BUILD)/skel/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@mkdir -p $(@D)
	@bpftool gen skeleton $< name $(subst -,_,$*)_bpf > $@

# ---- the status page ----
$(BUILD)/skel/page.h: user/shuntd/page.html tools/page
	@mkdir -p $(@D)
	@tools/page $< >$@

# ---- programs ----
$(BUILD)/obj/%.o: %.c | $(BUILD)/.deps-build $(SKELS)
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/shuntd: $(call obj,$(SHUNTD) $(COMMON) $(CORE))
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -lbpf -lelf -lz -lmnl -ljansson -lyaml -lcurl -lmicrohttpd -lpthread -o $@
$(BUILD)/shunt-agent: $(call obj,$(AGENT) $(COMMON) $(CORE))
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -lbpf -lelf -lz -lmnl -lyaml -lcurl -o $@
$(BUILD)/shunt: $(call obj,$(SHUNT) user/common/file.c $(CORE))
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -ljansson -lyaml -o $@

# ---- tests and benches ----
# Unit tests are always built with the sanitizers, from their own objects.
$(BUILD)/san/%.o: %.c | $(BUILD)/.deps-check
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) $(SAN) -MMD -MP -c $< -o $@
$(BUILD)/tests/unit/%: $(BUILD)/san/tests/unit/%.o $(patsubst %.c,$(BUILD)/san/%.o,$(COMMON_PURE) $(CORE))
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(SAN) $^ -lcmocka -lyaml -ljansson -lm -o $@
# The control socket has nothing of the kernel in it: its hostile clients are met here.
$(BUILD)/tests/unit/control_test: $(patsubst %,$(BUILD)/san/user/shuntd/%.o,control answer answer_config answer_daemon answer_event answer_flow answer_probe ledger ledger_file metrics shuntd)
# What makes a balancer ill, with the test's dataplane and clock.
$(BUILD)/tests/unit/health_test: $(patsubst %,$(BUILD)/san/user/shuntd/%.o,health ledger ledger_file shuntd)
# Files, and backends that are only names.
$(BUILD)/tests/unit/state_test: $(patsubst %,$(BUILD)/san/user/shuntd/%.o,state shuntd)
# The ledger on real files, and what is made of its events; the clocks are the test's.
$(BUILD)/tests/unit/ledger_test: $(patsubst %,$(BUILD)/san/user/shuntd/%.o,ledger ledger_file record shuntd)
# The journal on plain memory: the dataplane and the sockets are the test's.
$(BUILD)/tests/unit/journal_test: $(patsubst %,$(BUILD)/san/user/shuntd/%.o,journal shuntd)
$(PACKET): $(BUILD)/tests/packet/%: $(BUILD)/obj/tests/packet/%.o \
		$(call obj,$(filter-out %_test.c %.bpf.c,$(wildcard tests/packet/*.c)) $(CORE)) | $(BUILD)/.deps-check
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $^ -lcmocka -lbpf -lelf -lz -lyaml -o $@
$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.o $(call obj,$(CORE))
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $^ -lbpf -lelf -lz -ljansson -lyaml -lm -lpthread -o $@
$(BUILD)/tests/lib/netlink_tool: $(call obj,tests/lib/netlink_tool.c user/shuntd/netlink.c user/agent/vips.c user/common/file.c)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -lmnl -o $@
$(BUILD)/tests/lib/segment_tool: $(call obj,tests/lib/segment_tool.c user/shuntd/outlet.c $(addprefix user/core/,segment.c ip.c address.c))
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@
$(BUILD)/tests/lib/%: $(BUILD)/obj/tests/lib/%.o
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $^ -lbpf -lelf -lz -o $@
# The programs once more with the sanitizers, for the tests that feed them hostile input.
$(BUILD)/san/.programs: all
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/san EXTRA_CFLAGS="$(SAN)" EXTRA_LDFLAGS="$(SAN)" all
	@touch $@

tests: $(BUILD)/.deps-check all $(UNIT) $(PACKET) $(LIBTOOLS) $(BUILD)/san/.programs
check: tests lint ## all tests: unit, packet, golden, net; the last line counts them
	@tests/run $(BUILD)

check-kernels: $(BUILD)/.deps-kernels all $(PACKET) ## the programs on the oldest and newest kernels supported, in virtual machines
	@tools/kernels --build $(BUILD)

bench: bench-tables bench-datapath bench-failover bench-flows bench-bfd bench-ops ## all benches; JSON in build/bench
bench-tables: $(BUILD)/tests/bench/bench_tables ## build and rebuild time of the tables, their evenness
	@mkdir -p $(BUILD)/bench
	@$< $(BUILD)/bench/tables.json
bench-datapath: $(BUILD)/tests/bench/bench_datapath ## ns a packet, beside the floor; ns a heartbeat's answer
	@mkdir -p $(BUILD)/bench
	@$< $(BUILD)/bench/datapath.json
bench-failover: all $(LIBTOOLS) $(BENCH) ## power-off to verdict and to the first packet at the heir; false ejections
	@mkdir -p $(BUILD)/bench
	@tests/bench/failover $(BUILD) $(BUILD)/bench/failover.json
bench-flows: all $(LIBTOOLS) ## what becomes of connections when the pool changes, a backend dies, SYNs flood
	@mkdir -p $(BUILD)/bench
	@tests/bench/flows $(BUILD) $(BUILD)/bench/flows.json
bench-bfd: $(BUILD)/.deps-check all $(LIBTOOLS) ## backends asked by BFD, FRR and BIRD as peers: power-off to verdict, and 5 minutes without one
	@mkdir -p $(BUILD)/bench
	@tests/bench/bfd $(BUILD) $(BUILD)/bench/bfd.json
bench-ops: $(BUILD)/.deps-check all $(LIBTOOLS) ## the controller restarted, killed, replaced, reloaded, a VIP moved by keepalived: what is broken or lost
	@mkdir -p $(BUILD)/bench
	@tests/bench/ops $(BUILD) $(BUILD)/bench/ops.json
bench-packages: $(BUILD)/.deps-check deb $(LIBTOOLS) ## the Debian packages: lintian, their life under systemd, how exposed the services are
	@mkdir -p $(BUILD)/bench
	@tests/bench/packages $(BUILD) $(BUILD)/bench/packages.json
bench-faults: all $(LIBTOOLS) ## every way to fail: verdict, time, who fell with it; QUICK=1: few trials, 3 minutes
	@mkdir -p $(BUILD)/bench
	@tests/bench/faults $(BUILD) $(BUILD)/bench/faults.json $(if $(QUICK),--quick)

demo: $(BUILD)/.deps-demo all $(LIBTOOLS) ## the main job in namespaces of its own: KEEP=1 leaves it up
	@tools/demo --build $(BUILD) $(if $(KEEP),--keep)

deb: $(BUILD)/.deps-deb ## Debian packages shunt and shunt-agent, in build/deb
	@CC="$(CC)" CLANG="$(CLANG)" tools/deb $(BUILD) $(VERSION)
check-deb: $(BUILD)/.deps-check deb $(LIBTOOLS) ## install, run, upgrade, remove and purge them in fresh systems under systemd
	@SHUNT_BUILD=$(abspath $(BUILD)) PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/deb

lint: $(BUILD)/.deps-check ## format, seams, headers that compile alone
	@tools/lint

install: all ## into $(DESTDIR)$(PREFIX)
	install -D -m 755 $(BUILD)/shuntd $(DESTDIR)$(PREFIX)/sbin/shuntd
	install -D -m 755 $(BUILD)/shunt-agent $(DESTDIR)$(PREFIX)/sbin/shunt-agent
	install -D -m 755 $(BUILD)/shunt $(DESTDIR)$(PREFIX)/bin/shunt
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 user/man/*.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 user/man/*.5
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man7 user/man/*.7
	install -D -m 644 user/completion/shunt $(DESTDIR)$(PREFIX)/share/bash-completion/completions/shunt
	install -D -m 644 include/shunt/beat.h $(DESTDIR)$(PREFIX)/include/shunt/beat.h

clean: ## remove the products
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
