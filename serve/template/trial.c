/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trial clone (serve/template/trial.h): the clone is a child process, confined as any; what it
 * may not do itself, filling its memory, is done from here through the descriptor that
 * it sent before it was confined.
 */
#include "serve/template/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch/base/clock.h"
#include "arch/base/error.h"
#include "arch/layout.h"
#include "serve/ipc/child.h"
#include "serve/ipc/message.h"
#include "serve/ipc/payload.h"
#include "serve/machine/process.h"
#include "vmm.h"

#define TRIAL_EVENTS 16
#define TRIAL_FD     (STDERR_FILENO + 1) /* the pair, in the clone; then `memory` */
#define TRIAL_LATE_S 60 /* for a clone that does not end itself when its time is over */

/* How MESSAGE_MEMORY says what its descriptor is. */
enum trial_source {
	TRIAL_USERFAULT,     /* a userfaultfd */
	TRIAL_PAGEMAP,       /* pagemap; what is present was touched */
	TRIAL_PAGEMAP_DIRTY, /* pagemap; only what is private was touched for sure */
};

/* --- The clone --- */

/* /dev/userfaultfd (Linux 6.1) is for those whom its permissions name. */
static int trial_userfault_open(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), dev;

	if (fd >= 0)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -1;
	fd = (int)syscall(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	close(dev);
	return fd;
}

/* A userfaultfd over all memory, or -1. */
static int trial_userfault(const struct memory *m)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)m->base, .len = m->size },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	int fd = trial_userfault_open();

	if (fd < 0)
		return -1;
	if (syscall(SYS_ioctl, fd, UFFDIO_API, &api) == 0 &&
	    syscall(SYS_ioctl, fd, UFFDIO_REGISTER, &range) == 0)
		return fd;
	close(fd);
	return -1;
}

/*
 * Empties the page cache of `memory`, so that what is mapped at the end was touched: without
 * readahead, pages come into the cache one by one, and only what is there is mapped around a fault.
 */
static bool trial_forget_cache(const struct memory *m)
{
	size_t pages = m->size / LAYOUT_PAGE_SIZE;
	unsigned char *resident = malloc(pages);
	bool empty = resident && fdatasync(m->fd) == 0 &&
		     posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED) == 0 &&
		     madvise(m->base, m->size, MADV_RANDOM) == 0 &&
		     mincore(m->base, m->size, resident) == 0;

	for (size_t i = 0; empty && i < pages; i++)
		empty = !(resident[i] & 1);
	free(resident);
	return empty;
}

/* Runs in the clone: memory as the trial wants it, and its descriptor to the other side. */
static int trial_map_memory(void *opaque, struct snapshot *snapshot, struct memory *memory)
{
	const int *pair_fd = opaque;
	struct message m;
	int ret = memory_map_empty(memory, snapshot->memory_size), fd;

	if (ret < 0)
		return ret;
	message_init(&m, MESSAGE_MEMORY);
	m.value = TRIAL_USERFAULT;
	fd = trial_userfault(memory);
	if (fd < 0) {
		memory_destroy(memory);
		ret = snapshot_map_memory(snapshot, memory);
		if (ret < 0)
			return ret;
		memory_open_pagemap(memory);
		m.value = trial_forget_cache(memory) ? TRIAL_PAGEMAP : TRIAL_PAGEMAP_DIRTY;
	}
	m.id = (uintptr_t)memory->base;
	m.fd_count = fd >= 0 || memory->pagemap_fd >= 0;
	m.fds[0] = fd >= 0 ? fd : memory->pagemap_fd;
	ret = message_send(*pair_fd, &m);
	if (fd >= 0)
		close(fd);
	return ret < 0 ? failf(-ret, "a trial clone cannot say where its memory is: %s",
			       strerror(-ret))
		       : 0;
}

static int trial_answer(void *opaque, enum channel_type type, const void *data, size_t len)
{
	const int *pair_fd = opaque;
	struct message m;

	message_init(&m, MESSAGE_ANSWER);
	m.value = type;
	return payload_send(*pair_fd, &m, data, len);
}

/* The clone goes on after its answer, so that its memory can still be looked at. */
static int trial_child(void *opaque, int pair_fd)
{
	const struct trial *trial = opaque;
	const int fds[] = { pair_fd, trial->snapshot->memory_fd };
	struct machine_request request = {
		.data = trial->request,
		.len = trial->request_len,
		.timeout_ms = trial->timeout_ms,
		.keep = true,
		.answer = trial_answer,
		.opaque = &pair_fd,
	};
	struct config config;
	struct machine_options machine = {
		.config = &config,
		.snapshot = trial->snapshot,
		.clone = true,
		.supervisor_fd = -1,
		.request = &request,
		.map_memory = trial_map_memory,
		.map_opaque = &pair_fd,
		.main_us = monotonic_us(),
	};

	/* Not the directory that is being made, nor its files for writing. */
	if (child_keep(fds, 2, TRIAL_FD) < 0) {
		notef("trial clone: %s", error_text());
		return STATUS_VIRGA;
	}
	pair_fd = TRIAL_FD;
	trial->snapshot->memory_fd = TRIAL_FD + 1;
	config_init(&config);
	return machine_main(&machine);
}

/* --- This side --- */

struct trial_watch {
	struct trial *trial;
	struct child child;
	int source_fd; /* what MESSAGE_MEMORY brought; -1 before */
	enum trial_source source;
	uint64_t base; /* address of memory in the clone */
	bool answered;
};

/* Fills a page that is touched for the first time; one that was only read stays protected. */
static int trial_fill(struct trial_watch *w, uint64_t page, bool written)
{
	uint8_t bytes[LAYOUT_PAGE_SIZE];
	struct uffdio_copy copy = {
		.dst = w->base + page * LAYOUT_PAGE_SIZE,
		.src = (uintptr_t)bytes,
		.len = sizeof(bytes),
		.mode = written ? 0 : UFFDIO_COPY_MODE_WP,
	};

	if (pread(w->trial->snapshot->memory_fd, bytes, sizeof(bytes),
		  (off_t)(page * LAYOUT_PAGE_SIZE)) != (ssize_t)sizeof(bytes))
		return failf(EIO, "%s/memory: cannot be read: %s", w->trial->snapshot->path,
			     strerror(errno));
	while (syscall(SYS_ioctl, w->source_fd, UFFDIO_COPY, &copy) < 0 && errno == EAGAIN)
		copy.copy = 0;
	/* Two faults on one page: the second finds it there, and its thread waits still. */
	syscall(SYS_ioctl, w->source_fd, UFFDIO_WAKE,
		&(struct uffdio_range){ .start = copy.dst, .len = copy.len });
	return 0;
}

static void trial_unprotect(struct trial_watch *w, uint64_t page)
{
	struct uffdio_writeprotect range = {
		.range = { .start = w->base + page * LAYOUT_PAGE_SIZE, .len = LAYOUT_PAGE_SIZE },
	};

	while (syscall(SYS_ioctl, w->source_fd, UFFDIO_WRITEPROTECT, &range) < 0 && errno == EAGAIN)
		;
}

/* Takes the faults that are there. */
static int trial_faults(struct trial_watch *w)
{
	struct uffd_msg events[TRIAL_EVENTS];
	ssize_t len = read(w->source_fd, events, sizeof(events));
	int ret = 0;

	for (ssize_t i = 0; ret == 0 && i < len / (ssize_t)sizeof(events[0]); i++) {
		uint64_t flags = events[i].arg.pagefault.flags;
		uint64_t page = (events[i].arg.pagefault.address - w->base) / LAYOUT_PAGE_SIZE;

		if (events[i].event != UFFD_EVENT_PAGEFAULT)
			continue;
		page_trace_touch(w->trial->trace, page,
				 flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP));
		if (flags & UFFD_PAGEFAULT_FLAG_WP)
			trial_unprotect(w, page);
		else
			ret = trial_fill(w, page, flags & UFFD_PAGEFAULT_FLAG_WRITE);
	}
	return ret;
}

/* Without userfaultfd: what is mapped now, private or not (Linux, admin-guide/mm/pagemap.rst). */
static int trial_read_pagemap(struct trial_watch *w)
{
	uint64_t entries[512], pages = w->trial->trace->count;
	off_t first = (off_t)(w->base / LAYOUT_PAGE_SIZE * sizeof(entries[0]));

	for (uint64_t page = 0; page < pages;) {
		size_t want = pages - page < 512 ? (size_t)(pages - page) : 512;
		ssize_t got = pread(w->source_fd, entries, want * sizeof(entries[0]),
				    first + (off_t)(page * sizeof(entries[0])));

		if (got < (ssize_t)sizeof(entries[0]))
			return failf(got < 0 ? errno : EIO,
				     "the pagemap of a trial clone cannot be read");
		for (size_t i = 0; i < (size_t)got / sizeof(entries[0]); i++, page++) {
			bool present = entries[i] >> 62, file = entries[i] >> 61 & 1;

			if (present && (!file || w->source == TRIAL_PAGEMAP))
				page_trace_touch(w->trial->trace, page, !file);
		}
	}
	return 0;
}

static int trial_take_answer(struct trial_watch *w, const struct message *m)
{
	void *data;
	size_t len;
	int ret;

	w->answered = true;
	w->trial->error = m->value == CHANNEL_ERROR;
	if (!w->trial->error)
		return 0;
	ret = payload_take(m, &data, &len);
	if (ret < 0)
		return ret;
	failf(EREMOTEIO, "%.*s", (int)(len < 160 ? len : 160), (const char *)data);
	free(data);
	return 0;
}

static int trial_message(struct trial_watch *w)
{
	struct message m;
	int ret = message_receive(w->child.fd, &m);

	if (ret == -EAGAIN)
		return 0;
	if (ret != 1)
		return failf(ESRCH, "a trial clone ended before its answer");
	ret = 0;
	if (m.type == MESSAGE_MEMORY && m.fd_count == 1 && w->source_fd < 0) {
		w->source = m.value;
		w->base = m.id;
		w->source_fd = m.fds[0];
		m.fds[0] = -1;
	} else if (m.type == MESSAGE_ANSWER) {
		ret = trial_take_answer(w, &m);
	}
	message_close_fds(&m);
	return ret;
}

/* Its clone has a time-out of its own; one that a guest has taken over need not obey it. */
static int trial_watch(struct trial_watch *w)
{
	uint64_t deadline_us =
		monotonic_us() + w->trial->timeout_ms * 1000ull + TRIAL_LATE_S * 1000000ull;
	int ret = 0;

	while (ret == 0 && !w->answered) {
		uint64_t now_us = monotonic_us();
		bool faults = w->source_fd >= 0 && w->source == TRIAL_USERFAULT;
		struct pollfd fds[2] = {
			{ .fd = w->child.fd, .events = POLLIN },
			{ .fd = faults ? w->source_fd : -1, .events = POLLIN },
		};

		if (now_us >= deadline_us)
			return failf(ETIMEDOUT, "a trial clone does not end by itself");
		if (poll(fds, 2, (int)((deadline_us - now_us + 999) / 1000)) < 0 && errno != EINTR)
			return failf(errno, "poll: %s", strerror(errno));
		if (fds[1].revents & POLLIN)
			ret = trial_faults(w);
		if (ret == 0 && fds[0].revents)
			ret = trial_message(w);
	}
	if (ret == 0 && w->source != TRIAL_USERFAULT)
		ret = w->source_fd < 0 ? failf(ENOENT, "no /proc/self/pagemap to learn from")
				       : trial_read_pagemap(w);
	return ret;
}

int trial_run(struct trial *trial)
{
	struct trial_watch w = { .trial = trial, .source_fd = -1 };
	int ret = child_start(&w.child, trial_child, trial);

	if (ret < 0)
		return ret;
	ret = trial_watch(&w);
	trial->exact = w.source == TRIAL_USERFAULT;
	if (ret == 0)
		trial->trace->trials++;
	child_stop(&w.child);
	if (w.source_fd >= 0)
		close(w.source_fd);
	return ret;
}
