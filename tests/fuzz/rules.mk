# SPDX-License-Identifier: Apache-2.0
# Fuzz targets: tests/fuzz/NAME.c is build/fuzz/NAME, libFuzzer with both sanitizers; build/cover/NAME
# is the same for llvm-cov. docs/fuzzing.md. Included by tests/rules.mk.

FUZZCC       := clang-14
fuzz_names   := $(basename $(notdir $(wildcard tests/fuzz/*.c)))
fuzz_lib     := $(wildcard tests/fuzz/lib/*.c)
# Of all else gcc has said its warnings.
fuzz_quiet    = $(if $(findstring /tests/fuzz/,$@),,-w)
fuzz_flags   := $$(fuzz_quiet) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
cover_flags  := $$(fuzz_quiet) -fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping

# $(call fuzz_flavour,DIR,FLAGS): DIR/NAME of each target.
define fuzz_flavour
$(call flavour,$1,$2,$(FUZZCC))

$1/test-obj/libfuzz.a: $(fuzz_lib:%.c=$1/test-obj/%.o)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^

$(fuzz_names:%=$1/%): $1/%: $1/test-obj/tests/fuzz/%.o $1/test-obj/libfuzz.a $1/test-obj/libunit.a \
		$1/test-obj/libvirga.a
	$$(call say,FUZZ,$$@)
	$$(Q)$(FUZZCC) $(subst fuzzer-no-link,fuzzer,$2) $$(call wrap_flags,tests/fuzz/$$*.c) -o $$@ $$< \
		-Wl,--start-group $1/test-obj/libfuzz.a $1/test-obj/libunit.a $1/test-obj/libvirga.a \
		-Wl,--end-group -lcmocka $(test_libraries)
endef

$(eval $(call fuzz_flavour,$B/fuzz,$(fuzz_flags)))
$(eval $(call fuzz_flavour,$B/cover,$(cover_flags)))

fuzz_targets := $(fuzz_names:%=$B/fuzz/%)
FUZZ_SECONDS ?= 60
FUZZ         ?=

.PHONY: fuzz fuzz-targets fuzz-coverage
fuzz-targets: $(fuzz_targets)

# FUZZ="elf vsock": those alone.
fuzz: $(fuzz_targets)
	$(Q)python3 tests/fuzz/fuzzing.py $(FUZZ_SECONDS) $(FUZZ)

fuzz-coverage: $(fuzz_names:%=$B/cover/%)
	$(Q)python3 tests/fuzz/fuzzing.py coverage
