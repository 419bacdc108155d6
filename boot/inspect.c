/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts about a snapshot, gathered once and printed as a table or as JSON
 * (boot/inspect.h).
 */
#include "boot/inspect.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arch/error.h"
#include "boot/snapshot_format.h"

struct inspect_facts {
	struct snapshot_machine machine;
	uint64_t data_size; /* bytes of `memory` that are not holes */
	char digest[2 * DIGEST_LEN + 1];
};

static int inspect_gather(const struct snapshot *s, struct inspect_facts *facts)
{
	struct stat st;
	int ret = snapshot_section(&s->state, s->path, "machine", SNAPSHOT_MACHINE_VERSION,
				   snapshot_machine_fields, &facts->machine, NULL);

	if (ret < 0)
		return ret;
	if (fstat(s->memory_fd, &st) < 0)
		return failf(errno, "%s/memory: %s", s->path, strerror(errno));
	facts->data_size = (uint64_t)st.st_blocks * 512;
	facts->machine.host_kernel[sizeof(facts->machine.host_kernel) - 1] = '\0';
	for (size_t i = 0; i < DIGEST_LEN; i++)
		snprintf(facts->digest + 2 * i, 3, "%02x", s->memory_digest[i]);
	return 0;
}

/* Sections are the machine's own, or a device's. */
static bool inspect_is_device(const struct state_section *section)
{
	static const char own[] = " machine memory config vcpu ioapic ";
	char word[STATE_NAME_MAX + 2];

	snprintf(word, sizeof(word), " %s ", section->name);
	return !strstr(own, word);
}

static void inspect_text(const struct snapshot *s, const struct inspect_facts *facts, FILE *out)
{
	fprintf(out, "snapshot  %s (config, state, memory%s)\n", s->path,
		s->working_set.runs ? ", working-set" : "");
	fprintf(out, "made on   Linux %s, x86_64, machine version %u\n",
		(const char *)facts->machine.host_kernel, facts->machine.machine_version);
	fprintf(out, "vCPUs     %u\n", s->vcpu_count);
	fprintf(out, "memory    %.6g MiB, %.6g MiB of it data on disk\n",
		(double)s->memory_size / 1048576, (double)facts->data_size / 1048576);
	fprintf(out, "digest    %s\n", facts->digest);
	if (s->working_set.runs)
		fprintf(out,
			"touched   %u pages written, %u read, in %u runs, learnt from %u trial "
			"clones\n",
			s->working_set.written_pages, s->working_set.read_pages,
			s->working_set.count, s->working_set.trials);
	fprintf(out, "devices  ");
	for (unsigned i = 0; i < s->state.count; i++)
		if (inspect_is_device(&s->state.sections[i]))
			fprintf(out, " %s", s->state.sections[i].name);
	fprintf(out, "\n\n%-24s %8s %8s %10s\n", "section", "instance", "version", "bytes");
	for (unsigned i = 0; i < s->state.count; i++) {
		const struct state_section *section = &s->state.sections[i];

		fprintf(out, "%-24s %8u %8u %10zu\n", section->name, section->instance,
			section->version, section->len);
	}
}

static json_t *inspect_sections(const struct snapshot *s, bool devices)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->state.count; i++) {
		const struct state_section *section = &s->state.sections[i];

		if (devices && inspect_is_device(section))
			json_array_append_new(list,
					      json_pack("{s:s, s:I}", "name", section->name,
							"version", (json_int_t)section->version));
		else if (!devices)
			json_array_append_new(
				list, json_pack("{s:s, s:I, s:I, s:I}", "name", section->name,
						"instance", (json_int_t)section->instance,
						"version", (json_int_t)section->version, "bytes",
						(json_int_t)section->len));
	}
	return list;
}

/* Its numbers, or null when there is none. */
static json_t *inspect_working_set(const struct working_set *ws)
{
	if (!ws->runs)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I}", "written_pages", (json_int_t)ws->written_pages,
			 "read_pages", (json_int_t)ws->read_pages, "runs", (json_int_t)ws->count,
			 "trials", (json_int_t)ws->trials);
}

static int inspect_json(const struct snapshot *s, const struct inspect_facts *facts, FILE *out)
{
	json_t *config = json_loadb((const char *)s->config.data, s->config.len, 0, NULL);
	json_t *object = json_pack(
		"{s:s, s:s?, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:o, s:o, s:o}", "path",
		s->path, "host_kernel", (const char *)facts->machine.host_kernel, "arch", "x86_64",
		"machine_version", (json_int_t)facts->machine.machine_version, "cpus",
		(json_int_t)s->vcpu_count, "memory_bytes", (json_int_t)s->memory_size,
		"memory_data_bytes", (json_int_t)facts->data_size, "virtio_slots",
		(json_int_t)s->virtio_slots, "memory_digest", facts->digest, "devices",
		inspect_sections(s, true), "sections", inspect_sections(s, false), "working_set",
		inspect_working_set(&s->working_set), "config", config ? config : json_null());
	char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;

	json_decref(object);
	if (!text)
		return failf(EINVAL, "%s: cannot be said as JSON (a text in it is not UTF-8)",
			     s->path);
	fprintf(out, "%s\n", text);
	free(text);
	return 0;
}

int snapshot_inspect(struct snapshot *s, bool json, FILE *out)
{
	struct inspect_facts facts;
	int ret = inspect_gather(s, &facts);

	if (ret < 0)
		return ret;
	if (json)
		ret = inspect_json(s, &facts, out);
	else
		inspect_text(s, &facts, out);
	return ret;
}
