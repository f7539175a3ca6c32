# make                build $(O)/vipmap
# make check          build and run the unit tests
# make install        DESTDIR= PREFIX= UNITDIR= ZSHDIR=; make uninstall takes it back
# make lint           banned calls, and clang-format's opinion
# make format         apply clang-format
# make goldens        write tests/data/goldens/*.nft anew; read the difference like code
# make coverage       which lines the tests run
# make fuzz           run the fuzz targets for a few seconds each (clang's libFuzzer)
# Settings: CC, CFLAGS, O (build folder), SAN=address,undefined, WERROR=1, V=1

CC ?= gcc
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
SAN ?=
V ?= 0
WERROR ?= 0

ifeq ($(origin CC),default)
CC = gcc
endif

comma := ,
san_suffix := $(if $(SAN),-$(subst $(comma),-,$(SAN)))
O ?= build/$(notdir $(firstword $(CC)))$(san_suffix)

VERSION := 0.1.0
# Of which commit it is built: only main.o is built anew for it. Empty without git.
REVISION ?= $(shell git -c safe.directory='*' describe --always --dirty --exclude='*' 2>/dev/null)
LIBS := libnftnl libmnl libcurl libcjson yaml-0.1 libevent

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wcast-qual -Wwrite-strings -Wformat=2 -Wvla -Wundef
ifeq ($(WERROR),1)
WARN += -Werror
endif

our_cflags := -std=gnu17 -D_GNU_SOURCE -DVIPMAP_VERSION='"$(VERSION)"' -I. $(WARN) \
	-fno-strict-aliasing $(shell pkg-config --cflags $(LIBS))
our_ldlibs := $(shell pkg-config --libs $(LIBS)) -lm
ifneq ($(SAN),)
our_cflags += -fsanitize=$(SAN) -fno-omit-frame-pointer
our_ldflags += -fsanitize=$(SAN)
endif
check_cflags = $(shell pkg-config --cflags check)
check_ldlibs = $(shell pkg-config --libs check)

lib_src := $(sort $(filter-out proxy/main.c,$(wildcard proxy/*.c proxy/*/*.c nft/*.c watch/*.c)))
support_src := $(sort $(wildcard tests/support/*.c))
test_src := $(sort $(wildcard tests/unit/test_*.c))
fuzz_src := $(sort $(wildcard tests/fuzz/fuzz_*.c))
tool_src := $(sort $(wildcard tests/tools/*.c scripts/tools/*.c))

lib_obj := $(lib_src:%.c=$(O)/%.o)
support_obj := $(support_src:%.c=$(O)/%.o)
tests := $(test_src:tests/unit/%.c=$(O)/tests/%)
tools := $(patsubst %.c,$(O)/tests/%,$(notdir $(tool_src)))
fuzzers := $(fuzz_src:tests/fuzz/%.c=$(O)/tests/%)

revision := $(REVISION)

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @echo "  $(1)"
endif

.PHONY: all check coverage goldens tests tools fuzz fuzzers install uninstall lint format clean
.DELETE_ON_ERROR:
.SECONDARY:

all: $(O)/vipmap

# GnuTLS comes with libcurl's other protocols; main.c tells it not to begin.
$(O)/vipmap: $(O)/proxy/main.o $(lib_obj)
	$(call say,LD $@)
	$(Q)$(CC) $(CFLAGS) $(our_ldflags) -Wl,--export-dynamic-symbol=_gnutls_global_init_skip \
	$(LDFLAGS) -o $@ $^ $(our_ldlibs) $(LDLIBS)

# Objects depend on the stamp, which changes only when the flags do.
flags := $(CC) $(CFLAGS) $(our_cflags) $(our_ldflags) $(LDFLAGS)
$(O)/flags: force
	@mkdir -p $(O)
	@echo '$(subst ','\'',$(flags))' | cmp -s - $@ || echo '$(subst ','\'',$(flags))' > $@
.PHONY: force
force:

$(O)/revision: force
	@mkdir -p $(O)
	@echo '$(revision)' | cmp -s - $@ || echo '$(revision)' > $@
$(O)/proxy/main.o: our_cflags += -DVIPMAP_REVISION='"$(revision)"'
$(O)/proxy/main.o: $(O)/revision

$(O)/tests/%.o: our_cflags += $(check_cflags)
$(O)/%.o: %.c $(O)/flags
	$(call say,CC $<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(our_cflags) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(O)/tests/test_%: $(O)/tests/unit/test_%.o $(support_obj) $(lib_obj)
	$(call say,LD $@)
	$(Q)$(CC) $(CFLAGS) $(our_ldflags) $(LDFLAGS) $(WRAP) -o $@ $^ $(check_ldlibs) $(our_ldlibs) $(LDLIBS)

# Where allocations of our own objects fail: tests/support/wrap.h.
$(addprefix $(O)/tests/test_,nomemory nft_memory watch_memory api_memory): WRAP := \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray \
	-Wl,--wrap=strdup,--wrap=strndup

# Helpers for packet tests (tests/tools/NAME.c) and benches (scripts/tools/NAME.c), one program each.
link_tool = $(Q)$(CC) $(CFLAGS) $(our_ldflags) $(LDFLAGS) -o $@ $^ $(our_ldlibs) $(LDLIBS)
$(O)/tests/%: $(O)/tests/tools/%.o $(lib_obj)
	$(call say,LD $@)
	$(link_tool)
$(O)/tests/%: $(O)/scripts/tools/%.o $(lib_obj)
	$(call say,LD $@)
	$(link_tool)

# A fuzz target defines LLVMFuzzerTestOneInput. libFuzzer (FUZZ=1, as scripts/fuzz says it) has a
# main() that makes inputs up; otherwise there is one that replays files.
FUZZ ?= 0
fuzz_main := $(if $(filter 1,$(FUZZ)),,$(O)/tests/fuzz/replay.o)
fuzz_ldflags := $(if $(filter 1,$(FUZZ)),-fsanitize=fuzzer)
# From an archive, so that only what it reaches is linked: libFuzzer goes over the counters of all code for
# each input.
$(O)/lib.a: $(lib_obj)
	$(Q)rm -f $@ && ar rcs $@ $^
$(O)/tests/fuzz_%: $(O)/tests/fuzz/fuzz_%.o $(fuzz_main) $(O)/lib.a
	$(call say,LD $@)
	$(Q)$(CC) $(CFLAGS) $(our_ldflags) $(fuzz_ldflags) $(LDFLAGS) $(WRAP) -o $@ $^ $(our_ldlibs) $(LDLIBS)

# The server's connections come from the target.
$(O)/tests/fuzz_httpd: WRAP := -Wl,--wrap=evconnlistener_new,--wrap=bufferevent_socket_new

fuzz:
	scripts/fuzz
fuzzers: $(fuzzers)

tests: $(tests) $(tools) $(fuzzers)
tools: $(tools)

# Every binary runs, as many at a time as there are processors; what one says comes in one piece. The
# exit status says whether all passed.
CHECK_JOBS ?= $(shell nproc)
check: $(O)/vipmap tests
	$(Q)status=0; printf '%s\n' $(tests) | VIPMAP=$(O)/vipmap xargs -P $(CHECK_JOBS) -I{} sh -c \
	'said=$$({} 2>&1); status=$$?; printf "%s\n" "$$said"; exit $$status' || status=1; \
	for f in $(fuzzers); do $$f tests/data/$$(basename $$f)/* || status=1; done; exit $$status

coverage:
	scripts/coverage

goldens: $(O)/vipmap $(O)/tests/test_goldens
	$(Q)GOLDENS=1 VIPMAP=$(O)/vipmap $(O)/tests/test_goldens

# Which systemd the unit is for: from 253 on it has a way to wait for the end of a reload.
SYSTEMD ?= $(shell systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
SBINDIR ?= $(PREFIX)/sbin
UNITDIR ?= $(PREFIX)/lib/systemd/system
manuals := $(wildcard man/*.[1-8])
manual_path = $(PREFIX)/share/man/man$(subst .,,$(suffix $(1)))/$(notdir $(1))
reload_path = $(UNITDIR)/vipmap.service.d/notify-reload.conf
user_path = $(PREFIX)/lib/sysusers.d/vipmap.conf
plugin_path = $(PREFIX)/bin/kubectl-vipmap
bash_path = $(PREFIX)/share/bash-completion/completions/vipmap
fish_path = $(PREFIX)/share/fish/vendor_completions.d/vipmap.fish
# Debian's zsh looks into vendor-completions below /usr, and into this below /usr/local.
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
zsh_path = $(ZSHDIR)/_vipmap

install: $(O)/vipmap
	install -D -m 755 $(O)/vipmap $(DESTDIR)$(SBINDIR)/vipmap
	$(foreach m,$(manuals),install -D -m 644 $(m) $(DESTDIR)$(call manual_path,$(m)) &&) :
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@SBINDIR@|$(SBINDIR)|' scripts/systemd/vipmap.service >$(DESTDIR)$(UNITDIR)/vipmap.service
	chmod 644 $(DESTDIR)$(UNITDIR)/vipmap.service
	[ 0$(SYSTEMD) -lt 253 ] || \
		install -D -m 644 scripts/systemd/notify-reload.conf $(DESTDIR)$(reload_path)
	install -D -m 644 scripts/systemd/vipmap.sysusers $(DESTDIR)$(user_path)
	install -D -m 755 scripts/kubectl-vipmap $(DESTDIR)$(plugin_path)
	install -d $(DESTDIR)$(dir $(bash_path)) $(DESTDIR)$(dir $(zsh_path)) $(DESTDIR)$(dir $(fish_path))
	$(O)/vipmap completion bash >$(DESTDIR)$(bash_path)
	$(O)/vipmap completion zsh >$(DESTDIR)$(zsh_path)
	$(O)/vipmap completion fish >$(DESTDIR)$(fish_path)
	chmod 644 $(DESTDIR)$(bash_path) $(DESTDIR)$(zsh_path) $(DESTDIR)$(fish_path)

uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/vipmap $(foreach m,$(manuals),$(DESTDIR)$(call manual_path,$(m))) \
		$(DESTDIR)$(UNITDIR)/vipmap.service $(DESTDIR)$(reload_path) $(DESTDIR)$(user_path) \
		$(DESTDIR)$(plugin_path) $(DESTDIR)$(bash_path) $(DESTDIR)$(zsh_path) $(DESTDIR)$(fish_path)
	rmdir $(DESTDIR)$(dir $(reload_path)) 2>/dev/null || :

sources := $(wildcard proxy/*.[ch] proxy/*/*.[ch] nft/*.[ch] watch/*.[ch] tests/*/*.[ch] scripts/tools/*.c)

# What the sources of a room must not include: what stands above it, or beside it.
above_sync := serve/|commands/|[a-z_]+\.h
above_nft := sync/|$(above_sync)
above_model := model/|$(above_nft)
# The time is handed in: main() has the system's clock, clock.c reads it. What says "NULL: the
# system's" of a clock may take it by itself, the program does not.
program_sources := $(wildcard proxy/*.[ch] proxy/*/*.[ch] nft/*.[ch] watch/*.[ch])
read_time := \b(clock_gettime|gettimeofday|timespec_get|ftime|clock|time)\(

define no_include
	@! grep -nE '#include "($(2))' $(wildcard $(1)/*.[ch])
endef
lint:
	@! grep -nE '\b(sprintf|strcpy|strcat|strncpy|atoi|gets|alloca) ?\(' $(sources)
	@! grep -nE '^ \*["A-Za-z]' $(sources) # the formatter loses a blank where it breaks some comments
	$(call no_include,proxy/base,nft/|watch/|proxy/($(above_model)))
	$(call no_include,proxy/model,nft/|watch/|proxy/($(above_nft)))
	$(call no_include,nft,watch/|proxy/($(above_nft)))
	$(call no_include,watch,nft/|proxy/($(above_nft)))
	$(call no_include,proxy/sync,watch/|proxy/($(above_sync)))
	$(call no_include,proxy/serve,proxy/(commands/|[a-z_]+\.h))
	@! grep -nE '$(read_time)' $(filter-out proxy/base/clock.c,$(program_sources))
	@! grep -n 'clock_system(' $(filter-out proxy/main.c,$(wildcard proxy/*.c proxy/serve/*.c \
		proxy/commands/*.c))
	@clang-format --style=file:scripts/clang-format.yml --dry-run --Werror $(sources)

format:
	@clang-format --style=file:scripts/clang-format.yml -i $(sources)

clean:
	rm -rf $(O)

-include $(lib_obj:.o=.d) $(O)/proxy/main.d $(support_obj:.o=.d) $(test_src:%.c=$(O)/%.d) \
	$(tool_src:%.c=$(O)/%.d) $(fuzz_src:%.c=$(O)/%.d) $(O)/tests/fuzz/replay.d
