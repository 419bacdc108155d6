# SPDX-License-Identifier: Apache-2.0
# Test programs, sanitizers, lint and the targets that run them. Included by the Makefile.
# Tests are linked with glibc and Debian's libraries: cmocka and the sanitizers need them.

# http-parser is the product's own: Debian's is built without HTTP_PARSER_STRICT.
test_libraries := -ljansson -lcap-ng $(DEPS)/lib/libhttp_parser.a -lpthread
unit_all       := $(shell find tests/unit -name '*.c' | sort)
unit_sources   := $(foreach f,$(unit_all),$(if $(filter test_%,$(notdir $f)),$f))
unit_helpers   := $(filter-out $(unit_sources),$(unit_all))
test_flags     := -O1 -fno-omit-frame-pointer $(common_flags) $(kernel_headers)
asan_flags     := -fsanitize=address,undefined -fno-sanitize-recover=undefined

# A test that injects failures names the functions in a comment `wrap: open mmap`; each is linked
# with --wrap, so that the test's __wrap_open stands before it.
comma := ,
wrap_flags = $(addprefix -Wl$(comma)--wrap=,$(shell sed -n \
	's|^[ /*]*wrap: *\([a-z_A-Z0-9 ]*\).*|\1|p' $1))

# Of the product's, with what the tests' own C library calls beside.
$B/glibc/filter.h: $B/filter.h
	$(call say,GEN,$@)
	@mkdir -p $(@D)
	$(Q)$B/filter_gen --glibc $(devices:%=devices/%.c) >$@

# $(call flavour,DIR,FLAGS,COMPILER): DIR/test-obj/*.o, all of them but vmm.o in DIR/test-obj/libvirga.a, what
# several unit tests use in DIR/test-obj/libunit.a, and DIR/tests/unit/test_*.
define flavour
$1/test-obj/%.o: %.c $B/flags | $(DEPS)/stamp
	$$(call say,CC,$$@)
	@mkdir -p $$(@D)
	$$(Q)$3 $$(test_flags) $2 -MMD -MP -c -o $$@ $$<

$1/test-obj/devices_table.o: $B/devices_table.c $B/flags | $(DEPS)/stamp
	@mkdir -p $$(@D)
	$$(Q)$3 $(test_flags) $2 -c -o $$@ $$<

$1/test-obj/libvirga.a: $(sources:%.c=$1/test-obj/%.o) $1/test-obj/devices_table.o $B/obj/builtin.o
	$$(call say,AR,$$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^

$1/test-obj/libunit.a: $(unit_helpers:%.c=$1/test-obj/%.o)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^

$1/tests/unit/%: $1/test-obj/tests/unit/%.o $1/test-obj/libunit.a $1/test-obj/libvirga.a
	$$(call say,TEST,$$@)
	@mkdir -p $$(@D)
	$$(Q)$3 $2 $$(call wrap_flags,tests/unit/$$*.c) -o $$@ $$< -Wl,--start-group \
		$1/test-obj/libunit.a $1/test-obj/libvirga.a -Wl,--end-group -lcmocka $(test_libraries)

$1/test-obj/seccomp/confine.o: test_flags := -I$B/glibc $(test_flags)
$1/test-obj/seccomp/confine.o: | $B/glibc/filter.h
-include $$(wildcard $(addprefix $1/test-obj/,*.d */*.d */*/*.d */*/*/*.d */*/*/*/*.d))
endef

$(eval $(call flavour,$B,,$(HOSTCC)))
$(eval $(call flavour,$B/asan,$(asan_flags),$(HOSTCC)))

unit_tests := $(unit_sources:%.c=$B/%)
asan_tests := $(unit_sources:%.c=$B/asan/%)

# Not confined: its confine_*() come before those of the library.
$B/asan/virga: $B/asan/test-obj/vmm.o $B/asan/test-obj/tests/asan_confine.o \
		$B/asan/test-obj/libvirga.a
	$(call say,LD,$@)
	$(Q)$(HOSTCC) $(asan_flags) -o $@ $^ $(test_libraries)

# --- tiny guests: each source in tests/guest/ is a bootable ELF, those in lib/ belong to all

guest_tests := $(patsubst tests/guest/%,$B/tests/guest/%.elf,$(basename \
	$(wildcard tests/guest/*.S tests/guest/*.c)))
guest_lib   := $(wildcard tests/guest/lib/*.S tests/guest/lib/*.c)
guest_needs := $(guest_lib) tests/guest/guest.ld $(wildcard tests/guest/*.h tests/guest/lib/*.h) \
	$(layout)

define guest_test
	$(call say,GUEST,$@)
	@mkdir -p $(@D)
	$(Q)gcc $(guest_flags) -o $@ -Wl,-T,tests/guest/guest.ld $< $(guest_lib)
endef

$B/tests/guest/%.elf: tests/guest/%.S $(guest_needs)
	$(guest_test)

$B/tests/guest/%.elf: tests/guest/%.c $(guest_needs)
	$(guest_test)

# The embedded guest in ring 0, with requests of its own: --wrap puts them before those it has.
ring0_sources := $(wildcard tests/guest/ring0/*.S tests/guest/ring0/*.c) $(guest_sources)

$B/tests/guest/ring0.elf: $(ring0_sources) guest/builtin/guest.ld $(wildcard tests/guest/ring0/*.h) \
		$(wildcard guest/*.h guest/builtin/*.h) $(layout)
	$(call say,GUEST,$@)
	@mkdir -p $(@D)
	$(Q)gcc $(guest_flags) -o $@ -Wl,-T,guest/builtin/guest.ld -Wl,--wrap=guest_devices \
		-Wl,--wrap=command_run $(ring0_sources)

# --- targets

.PHONY: tests unit asan check check-long check-packages mutants lint format bench demo demo-linux
tests: virga $B/agent $(unit_tests) $(guest_tests) $B/tests/guest/ring0.elf fuzz-targets

unit: $(unit_tests)
	$(Q)for test in $^; do echo "  RUN     $$test"; $$test || exit 1; done

asan: $B/asan/virga $(asan_tests)
	$(Q)for test in $(asan_tests); do echo "  RUN     $$test"; \
		UBSAN_OPTIONS=print_stacktrace=1 $$test >$$test.log 2>&1 || { cat $$test.log; exit 1; }; done
	$(Q)tests/asan $B/asan/virga

check:
	$(Q)tests/setup check
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)PYTHONPYCACHEPREFIX=$B/pycache $B/venv/bin/python -m pytest tests -v $(PYTEST)

# What takes too long for every change: templates of older versions, built from their commits,
# clients whose libraries take minutes to build, machines that stand still for a minute, the tests in
# a Debian that has nothing else, and each rule of the system call filters taken out.
check-long:
	$(Q)tests/setup long
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)PYTHONPYCACHEPREFIX=$B/pycache $B/venv/bin/python -m pytest tests/long -v $(PYTEST)

# Which changes of the code that a VM process runs no test notices.
mutants:
	$(Q)tests/setup check
	$(Q)PYTHONPYCACHEPREFIX=$B/pycache tests/mutants/run $(MUTANTS:%=--count %) $(SEED:%=--seed %)

lint: objects tests/lint
	$(Q)CFLAGS='$(filter-out -g -Werror,$(common_flags)) $(kernel_headers)' tests/lint

format:
	$(Q)clang-format-14 -i $$(find . -path ./$B -prune -o -name '*.[ch]' -print)

bench: virga
	$(Q)bench/run $(BENCH)

demo:
	$(Q)tests/setup demo
	$(Q)$(MAKE) --no-print-directory virga
	$(Q)tests/demo

demo-linux:
	$(Q)tests/setup demo
	$(Q)$(MAKE) --no-print-directory virga $B/agent
	$(Q)tests/demo linux

include tests/fuzz/rules.mk
