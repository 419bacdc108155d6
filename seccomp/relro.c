/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Read-only after relocation. musl's start-up of a static PIE relocates the program
 * but leaves PT_GNU_RELRO writable (musl 1.2.3), so the program closes it itself.
 */
#include "seccomp/relro.h"

#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/base/error.h"

int relro_protect(void)
{
	const Elf64_Phdr *headers = (const void *)(uintptr_t)getauxval(AT_PHDR);
	unsigned long count = getauxval(AT_PHNUM);
	uintptr_t page = (uintptr_t)getauxval(AT_PAGESZ), base = 0, start, end;
	const Elf64_Phdr *relro = NULL;

	for (unsigned long i = 0; headers && i < count; i++) {
		if (headers[i].p_type == PT_PHDR)
			base = (uintptr_t)headers - headers[i].p_vaddr;
		if (headers[i].p_type == PT_GNU_RELRO)
			relro = &headers[i];
	}
	if (!relro)
		return 0;
	if (!base) /* no PT_PHDR: the headers follow the ELF header at the load address */
		base = (uintptr_t)headers - sizeof(Elf64_Ehdr);
	start = (base + relro->p_vaddr) & ~(page - 1);
	end = (base + relro->p_vaddr + relro->p_memsz) & ~(page - 1);
	if (end > start && mprotect((void *)start, end - start, PROT_READ) < 0)
		return failf(errno, "cannot write-protect relocated data: %s", strerror(errno));
	return 0;
}
