/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `virga inspect`: facts about a snapshot, gathered once and printed as a table or as JSON
 * (serve/cli/inspect.h).
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "boot/snapshot/format.h"
#include "boot/snapshot/snapshot.h"
#include "serve/cli/command.h"
#include "serve/cli/inspect.h"
#include "serve/template/store.h"
#include "vmm.h"

/* What a clone has that no other has, in boot/identity.h and from its own command line. */
static const char *const inspect_anew[] = { "generation_id", "seed", "wall_clock", "clone_number",
					    "host_sockets" };

#define INSPECT_ANEW (sizeof(inspect_anew) / sizeof(inspect_anew[0]))

struct inspect_facts {
	struct snapshot_machine machine;
	uint64_t data_size; /* bytes of `memory` that are not holes */
	char digest[2 * DIGEST_LEN + 1];
	char version[SNAPSHOT_VERSION_LEN + 1];
	const struct template_facts *template;
	json_t *config; /* owned; NULL when `config` is no JSON */
};

/* Text of somebody else's as a terminal may see it. */
struct inspect_word {
	char text[64];
};

static struct inspect_word inspect_clean(const char *text)
{
	struct inspect_word word;

	snprintf(word.text, sizeof(word.text), "%s", text);
	text_clean(word.text);
	return word;
}

static int inspect_gather(const struct snapshot *s, struct inspect_facts *facts)
{
	struct stat st;
	int ret = snapshot_section(&s->state, s->path, "machine", snapshot_machine_fields,
				   &facts->machine, NULL);

	if (ret < 0)
		return ret;
	if (fstat(s->memory_fd, &st) < 0)
		return failf(errno, "%s/memory: %s", s->path, strerror(errno));
	facts->data_size = (uint64_t)st.st_blocks * 512;
	facts->machine.host_kernel[sizeof(facts->machine.host_kernel) - 1] = '\0';
	for (size_t i = 0; i < DIGEST_LEN; i++)
		snprintf(facts->digest + 2 * i, 3, "%02x", s->memory_digest[i]);
	snapshot_version(s, facts->version);
	facts->config = json_loadb((const char *)s->config.data, s->config.len, 0, NULL);
	return 0;
}

/* A key of the configuration, NULL when it was not given. */
static const char *inspect_key(const struct inspect_facts *facts, const char *key)
{
	return json_string_value(json_object_get(facts->config, key));
}

/* --- For people --- */

/* One of the words after "guest": quoted, so that it is one, whatever is in it. */
static void inspect_quote(const struct inspect_facts *facts, const char *key, FILE *out)
{
	json_t *value = json_object_get(facts->config, key);
	char *text = json_is_string(value) ? json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII)
					   : NULL;

	if (text)
		fprintf(out, "%s%s %s", strcmp(key, "kernel") == 0 ? "" : ", ", key, text);
	free(text);
}

static void inspect_guest(const struct inspect_facts *facts, FILE *out)
{
	fputs("guest     ", out);
	if (!inspect_key(facts, "kernel"))
		fputs("embedded", out);
	inspect_quote(facts, "kernel", out);
	inspect_quote(facts, "initrd", out);
	inspect_quote(facts, "cmdline", out);
	fputc('\n', out);
}

/* How the template was made. */
static void inspect_template(const struct template_facts *t, FILE *out)
{
	time_t built = (time_t)t->built_s;
	char date[32] = "?";
	struct tm tm;

	if (!t->known)
		return;
	if (gmtime_r(&built, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", &tm);
	fprintf(out, "built     %s, in %.3f s\n", date, (double)t->build_us / 1e6);
	fprintf(out,
		"ready     %.6g ms after the start of its machine, then %llu warm-up requests\n",
		(double)t->ready_us / 1e3, (unsigned long long)t->warm_requests);
}

static void inspect_touched(const struct snapshot *s, const struct template_facts *t, FILE *out)
{
	const struct working_set *ws = &s->working_set;

	if (!ws->runs)
		return;
	fprintf(out, "touched   %u pages written, %u read, in %u runs, learnt from %u trial clones",
		ws->written_pages, ws->read_pages, ws->count, ws->trials);
	if (t->known)
		fprintf(out, ", requests tried: %llu", (unsigned long long)t->tried_requests);
	fputc('\n', out);
}

/* As --device has them; where a start would refuse the list, what has a section. */
static void inspect_devices(const struct snapshot *s, FILE *out)
{
	struct device_list list;
	char words[512];

	if (snapshot_devices(s, &list) < 0) {
		snapshot_device_words(s, words, sizeof(words));
		text_clean(words);
		fprintf(out, " %s", words);
	}
	for (unsigned i = 0; i < list.count; i++) {
		const struct device_spec *spec = &list.list[i];
		const bool same = strcmp(spec->name, spec->class->name) == 0;

		fprintf(out, " %s%s%s", spec->class->name,
			same ? "" : ",name=", same ? "" : spec->name);
	}
	device_list_fini(&list);
}

static void inspect_lists(const struct snapshot *s, FILE *out)
{
	fputs("anew      in each clone:", out);
	for (size_t i = 0; i < INSPECT_ANEW; i++)
		fprintf(out, "%s %s", i ? "," : "", inspect_anew[i]);
	fputs("\ndevices  ", out);
	inspect_devices(s, out);
	fprintf(out, "\n\n%-24s %8s %8s %10s\n", "section", "instance", "version", "bytes");
	for (unsigned i = 0; i < s->state.count; i++) {
		const struct state_section *section = &s->state.sections[i];

		fprintf(out, "%-24s %8u %8u %10zu\n", inspect_clean(section->name).text,
			section->instance, section->version, section->len);
	}
}

static void inspect_text(const struct snapshot *s, const struct inspect_facts *facts, FILE *out)
{
	fprintf(out, "snapshot  %s (config, state, memory%s%s)\n", s->path,
		s->working_set.runs ? ", working-set" : "",
		facts->template->known ? ", template" : "");
	fprintf(out, "version   %s\n", facts->version);
	fprintf(out, "made on   Linux %s, x86_64, machine version %u\n",
		inspect_clean((const char *)facts->machine.host_kernel).text,
		facts->machine.machine_version);
	inspect_template(facts->template, out);
	inspect_guest(facts, out);
	fprintf(out, "vCPUs     %u\n", s->vcpu_count);
	fprintf(out, "memory    %.6g MiB, %.6g MiB of it data on disk\n",
		(double)s->memory_size / 1048576, (double)facts->data_size / 1048576);
	fprintf(out, "digest    %s\n", facts->digest);
	inspect_touched(s, facts->template, out);
	inspect_lists(s, out);
}

/* --- For machines --- */

static json_t *inspect_sections(const struct snapshot *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->state.count; i++) {
		const struct state_section *section = &s->state.sections[i];

		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I}", "name", section->name,
						      "instance", (json_int_t)section->instance,
						      "version", (json_int_t)section->version,
						      "bytes", (json_int_t)section->len));
	}
	return list;
}

/* The list, or null when a start would refuse it. */
static json_t *inspect_devices_json(const struct snapshot *s)
{
	struct device_list list;
	json_t *devices;

	if (snapshot_devices(s, &list) < 0)
		return json_null();
	devices = json_array();
	for (unsigned i = 0; i < list.count; i++) {
		const struct device_spec *spec = &list.list[i];

		json_array_append_new(devices,
				      json_pack("{s:s, s:s, s:O?}", "type", spec->class->name,
						"name", spec->name, "options", spec->settings));
	}
	device_list_fini(&list);
	return devices;
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

static json_t *inspect_template_json(const struct template_facts *t)
{
	if (!t->known)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "built_s", (json_int_t)t->built_s, "build_us",
			 (json_int_t)t->build_us, "ready_us", (json_int_t)t->ready_us,
			 "warm_requests", (json_int_t)t->warm_requests, "tried_requests",
			 (json_int_t)t->tried_requests);
}

static json_t *inspect_anew_json(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < INSPECT_ANEW; i++)
		json_array_append_new(list, json_string(inspect_anew[i]));
	return list;
}

static int inspect_json(const struct snapshot *s, const struct inspect_facts *facts, FILE *out)
{
	const char *kernel = inspect_key(facts, "kernel");
	json_t *object = json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:o, "
		"s:O?}",
		"path", s->path, "version", facts->version, "guest", kernel ? kernel : "embedded",
		"host_kernel", (const char *)facts->machine.host_kernel, "arch", "x86_64",
		"machine_version", (json_int_t)facts->machine.machine_version, "cpus",
		(json_int_t)s->vcpu_count, "memory_bytes", (json_int_t)s->memory_size,
		"memory_data_bytes", (json_int_t)facts->data_size, "virtio_slots",
		(json_int_t)s->virtio_slots, "memory_digest", facts->digest, "devices",
		inspect_devices_json(s), "sections", inspect_sections(s), "working_set",
		inspect_working_set(&s->working_set), "template",
		inspect_template_json(facts->template), "anew", inspect_anew_json(), "config",
		facts->config);
	char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;

	json_decref(object);
	if (!text)
		return failf(EINVAL, "%s: cannot be said as JSON (a text in it is not UTF-8)",
			     s->path);
	fprintf(out, "%s\n", text);
	free(text);
	return 0;
}

int snapshot_inspect(struct snapshot *s, const struct template_facts *template, bool json,
		     FILE *out)
{
	struct inspect_facts facts = { .template = template };
	int ret = inspect_gather(s, &facts);

	if (ret < 0)
		return ret;
	if (json)
		ret = inspect_json(s, &facts, out);
	else
		inspect_text(s, &facts, out);
	json_decref(facts.config);
	return ret;
}

int inspect_command(const struct options *options)
{
	struct template_facts template;
	struct snapshot snapshot;
	char *path = NULL;
	int ret = 0;

	/* DIR may be written without a slash, too. */
	if (options->store || access(options->args[0], F_OK) < 0)
		ret = template_store_path(options->store, options->args[0], false, &path);
	if (ret == 0)
		ret = snapshot_open_template(&snapshot, &template, path ? path : options->args[0]);
	free(path);
	if (ret < 0)
		return command_failed("inspect", STATUS_BAD_INPUT);
	if (options->verify)
		ret = snapshot_verify(&snapshot);
	if (ret == 0)
		ret = snapshot_inspect(&snapshot, &template, options->json, stdout);
	if (ret == 0 && options->verify && !options->json)
		puts("digest         verified");
	snapshot_close(&snapshot);
	return ret < 0 ? command_failed("inspect", STATUS_BAD_INPUT) : 0;
}
