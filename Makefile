# SPDX-License-Identifier: Apache-2.0
# The whole build: no configure step, objects under build/, the product is ./virga.
# `make help` lists the targets. V=1 shows commands. Tests, lint and sanitizers: tests/rules.mk.

ARCH    ?= x86_64
PREFIX  ?= /usr/local
B       := build
DEPS    := build/deps

# A machine's own list says which it has and in which order (devices/device.h).
# The function host needs virtio_vsock, for the function channel, and park, where its embedded guest
# waits: a build without them runs, snapshots and restores other guests.
DEVICE_CLASSES := serial debug_exit power park virtio_vsock virtio_rng
DEVICES        ?= $(DEVICE_CLASSES)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules $(if $(filter 0,$(MAKELEVEL)),-j$(shell nproc))
SHELL := /bin/bash

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = @$(if $(filter 1,$(V)),:,printf '  %-7s %s\n' $1 $2)

# --- the device set: every word is legal, once

unknown_devices := $(filter-out $(DEVICE_CLASSES),$(DEVICES))
ifneq ($(unknown_devices),)
$(error DEVICES: '$(firstword $(unknown_devices))' is not a device; there are: $(DEVICE_CLASSES))
endif
ifneq ($(words $(DEVICES)),$(words $(sort $(DEVICES))))
$(error DEVICES: a device is named twice in '$(DEVICES)'; name each once)
endif
ifeq ($(strip $(DEVICES)),)
$(error DEVICES: name one at least; there are: $(DEVICE_CLASSES))
endif

# In the order of DEVICE_CLASSES, so that equal sets make equal programs.
devices := $(filter $(DEVICES),$(DEVICE_CLASSES))

# --- sources

sources := $(wildcard arch/*.c arch/base/*.c arch/$(ARCH)/*.c devices/*/*.c boot/*.c \
	boot/snapshot/*.c boot/pages/*.c boot/$(ARCH)/*.c serve/*/*.c) \
	devices/device.c $(devices:%=devices/%.c) \
	$(filter-out seccomp/filter_gen.c,$(wildcard seccomp/*.c))
objects := $(sources:%.c=$B/obj/%.o) $B/obj/devices_table.o $B/obj/builtin.o

# What each exit, each page and each byte of a request passes is built for speed, all else for size.
fast := $(filter \
	$(addprefix arch/base/,blob.c clock.c digest.c histogram.c json_text.c loop.c timers.c) \
	$(addprefix arch/,bus.c memory.c prefault.c vm.c) \
	$(addprefix arch/x86_64/,exit.c ioapic.c msr.c state.c sync.c time.c) \
	$(addprefix boot/pages/,private.c read_ahead.c rewind.c) \
	devices/channel/% $(addprefix devices/virtio/,virtio.c virtqueue.c) \
	$(addprefix devices/vsock/,channel_end.c packet.c vsock.c) \
	devices/park.c devices/virtio_% \
	$(addprefix serve/http/,conn.c framing.c http.c request.c) \
	,$(sources))

# --- flags

warnings := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wimplicit-fallthrough -Wstrict-prototypes \
	-Wmissing-prototypes -Wcast-align -Werror
common_flags := -std=gnu11 -g -I. -I$B $(warnings) -D_GNU_SOURCE
kernel_headers := -idirafter $(DEPS)/include

CC      := musl-gcc
HOSTCC  := gcc
CFLAGS  := -Os -fPIE -ffunction-sections -fdata-sections -fstack-protector-strong \
	-fno-asynchronous-unwind-tables -I$(DEPS)/musl $(common_flags) \
	$(kernel_headers)
# musl-gcc knows no -static-pie: its self-relocating start file is named by hand. One segment less
# (noseparate-code) is 5 us less per exec and 8 KiB less on disk.
musl    := /usr/lib/$(ARCH)-linux-musl
LDFLAGS := -nostartfiles -static -Wl,-pie -Wl,--no-dynamic-linker -Wl,-z,text -Wl,-z,relro \
	-Wl,-z,now -Wl,-z,noexecstack -Wl,-z,noseparate-code -Wl,--hash-style=gnu -Wl,--gc-sections \
	-Wl,--build-id -Wl,--fatal-warnings \
	$(musl)/rcrt1.o $(musl)/crti.o
libraries := $(DEPS)/lib/libjansson.a $(DEPS)/lib/libcap-ng.a $(DEPS)/lib/libhttp_parser.a

guest_flags := -O2 -g0 -ffreestanding -nostdlib -static -fno-pic -no-pie -fno-stack-protector \
	-fno-asynchronous-unwind-tables -mno-red-zone -mgeneral-regs-only -std=gnu11 -I. $(warnings) \
	-Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments

# $(call remember,FILE,TEXT): FILE holds TEXT and is rewritten only when TEXT changes.
remember = $(if $(call differs,$(file <$1),$2),$(shell mkdir -p $(dir $1))$(file >$1,$2))
differs = $(if $(subst x$1,,x$2)$(subst x$2,,x$1),yes)
ifneq ($(and $(filter clean distclean,$(MAKECMDGOALS)),$(word 2,$(MAKECMDGOALS))),)
$(error clean: name it alone, other targets run beside it)
endif
ifneq ($(filter-out clean distclean help format,$(or $(MAKECMDGOALS),all)),)
$(call remember,$B/flags,$(CC) $(CFLAGS) $(LDFLAGS) fast: $(fast))
$(call remember,$B/devices.list,$(devices) of $(DEVICE_CLASSES))
endif

# --- the product

.PHONY: all
all: virga

virga: $B/virga.debug
	$(call say,STRIP,$@)
	$(Q)strip --strip-all -o $@.tmp $<
	$(Q)objcopy --add-gnu-debuglink=$< $@.tmp
	$(Q)mv $@.tmp $@

$B/virga.debug: $B/obj/vmm.o $(objects) $(libraries)
	$(call say,LD,$@)
	$(Q)$(CC) $(CFLAGS) -o $@ $(LDFLAGS) -Wl,-Map=$B/virga.map $^ -lc $(musl)/crtn.o

$B/obj/%.o: %.c $B/flags | $(DEPS)/stamp
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(fast:%.c=$B/obj/%.o): CFLAGS += -O2

# Generated: the table of devices, the embedded guest, the seccomp programs.

$B/devices_table.c: $B/devices.list
	$(call say,GEN,$@)
	$(Q){ echo '/* Generated from DEVICES by the Makefile. */'; \
	echo '#include "devices/device.h"'; \
	printf 'extern const struct device_class %s_class;\n' $(devices); \
	echo 'const struct device_class *const device_classes[] = {'; \
	printf '\t&%s_class,\n' $(devices); printf '\tNULL,\n};\n'; \
	echo 'const char *const device_words[] = {'; \
	printf '\t"%s",\n' $(DEVICE_CLASSES); printf '\tNULL,\n};\n'; } >$@

$B/obj/devices_table.o: $B/devices_table.c $B/flags | $(DEPS)/stamp
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

guest_sources := $(wildcard guest/builtin/*.S guest/builtin/*.c)
layout        := arch/layout.h arch/$(ARCH)/layout.h

$B/guest.elf: $(guest_sources) guest/builtin/guest.ld $(wildcard guest/*.h guest/builtin/*.h) $(layout)
	$(call say,GUEST,$@)
	@mkdir -p $(@D)
	$(Q)gcc $(guest_flags) -s -o $@ -Wl,-T,guest/builtin/guest.ld $(guest_sources)

$B/builtin.S: $B/guest.elf
	$(Q)printf '%s\n' '.section .rodata.builtin_guest, "a"' '.balign 16' \
	'.global builtin_guest_start, builtin_guest_end' 'builtin_guest_start:' \
	'.incbin "$<"' 'builtin_guest_end:' '.section .note.GNU-stack, "", @progbits' >$@

$B/obj/builtin.o: $B/builtin.S $B/guest.elf
	@mkdir -p $(@D)
	$(Q)gcc -c -o $@ $<

# libseccomp runs here, not in the product: a filter built beforehand is one system call.
$B/filter_gen: seccomp/filter_gen.c $(wildcard seccomp/*.h) $B/flags | $(DEPS)/stamp
	$(call say,HOSTCC,$<)
	$(Q)$(HOSTCC) -O1 $(common_flags) -o $@ $< -lseccomp

$B/filter.h: $B/filter_gen $B/devices.list $(devices:%=devices/%.c)
	$(call say,GEN,$@)
	$(Q)$B/filter_gen $(devices:%=devices/%.c) >$@

$(patsubst %.c,$B/obj/%.o,$(filter seccomp/%,$(sources))): | $B/filter.h

# The agent of Linux guests: one static program that any initramfs can hold.
agent_sources := $(wildcard guest/agent/*.c)

$B/agent: $(agent_sources) $(wildcard guest/*.h guest/agent/*.h) $B/flags | $(DEPS)/stamp
	$(call say,AGENT,$@)
	$(Q)$(CC) $(CFLAGS) -s -o $@ $(LDFLAGS) $(agent_sources) -lc $(musl)/crtn.o

-include $(wildcard $B/obj/*.d $B/obj/*/*.d $B/obj/*/*/*.d)

# --- dependencies

.PHONY: deps
deps: $(DEPS)/stamp

$(DEPS)/stamp: tests/deps
	$(call say,DEPS,$(DEPS))
	$(Q)tests/setup build
	$(Q)tests/deps $(DEPS)
	@touch $@

$(libraries): | $(DEPS)/stamp

# --- the rest

.PHONY: objects size install clean distclean help
objects: $B/obj/vmm.o $(objects)

size: virga
	$(Q)tests/size $B/virga.map virga $B/guest.elf

install: virga
	install -D -m 755 virga $(DESTDIR)$(PREFIX)/bin/virga
	install -D -m 644 virga.1 $(DESTDIR)$(PREFIX)/share/man/man1/virga.1

# What was fetched or built from fetched sources stays; distclean removes it too.
clean:
	rm -rf virga $(filter-out $(DEPS) $B/venv $B/clients $B/nested,$(wildcard $B/*))

distclean:
	rm -rf virga $B

#: make             build ./virga (DEVICES="serial park ..." chooses the devices, V=1 shows commands)
#: make deps        build the static libraries into build/deps (make does it when they are missing)
#: make check       install what the tests need, run them all; last line: N passed, N failed, N skipped
#: make check-long what takes too long: old templates, other clients, a minute's stop, a fresh Debian
#: make demo        boot, snapshot, clone and serve the embedded guest; demo-linux: a Debian kernel
#: make lint        clang-tidy, cppcheck, shellcheck, layering, headers alone, no globals, formatting
#: make format      clang-format all sources
#: make asan        address and undefined-behaviour sanitizers: unit tests, and a virga from boot to clone
#: make fuzz        fuzz targets, FUZZ_SECONDS=60 each; fuzz-coverage: the lines that they reach
#: make unit        build and run the unit tests
#: make mutants     change the code at MUTANTS=40 places that SEED=1 chooses; lists what no test notices
#: make bench       measure; BENCH="clone_100 --quick" are arguments of bench/run
#: make size        what each part of ./virga costs
#: make install     into DESTDIR/PREFIX (/usr/local); clean; distclean removes fetched things too
help:
	@sed -n 's/^#: //p' Makefile

include tests/rules.mk
