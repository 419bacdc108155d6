/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions and versions of templates (serve/pool/function.h): making, changing and removing them.
 */
#include "serve/pool/function.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/vcpu.h"
#include "boot/snapshot/format.h"
#include "serve/pool/state.h"

const char *tier_name(enum invocation_tier tier)
{
	static const char *const names[TIER_COUNT] = { "armed", "bare", "built", "kept" };

	return names[tier];
}

const char *result_name(enum invocation_result result)
{
	static const char *const names[RESULT_COUNT] = { "ok",          "function_error",
							 "timeout",     "throttled",
							 "bad_request", "host_error",
							 "cancelled" };

	return names[result];
}

const char *fallback_name(enum invocation_fallback fallback)
{
	static const char *const names[FALLBACK_COUNT] = { "no_shell", "bare", "no_working_set",
							   "not_copied" };

	return names[fallback];
}

/* --- Shapes --- */

/* What two machines must have in common: memory, vCPUs, each vCPU's CPUID, the devices and their options. */
static int shape_content(const struct snapshot *s, struct blob *content)
{
	blob_put_u64(content, s->memory_size);
	blob_put_u32(content, s->vcpu_count);
	for (unsigned i = 0; i < s->vcpu_count; i++) {
		const struct state_section *section = state_find(&s->state, "vcpu", i);
		const void *cpuid;
		size_t len;
		int ret;

		if (!section)
			return failf(EINVAL, "%s: its state has no section vcpu %u", s->path, i);
		ret = vcpu_saved_cpuid(section->data, section->len, &cpuid, &len);
		if (ret < 0)
			return ret;
		blob_put_u64(content, len);
		blob_put(content, cpuid, len);
	}
	for (unsigned i = 0; i < s->state.count; i++) {
		const struct state_section *section = &s->state.sections[i];

		if (strcmp(section->name, SNAPSHOT_DEVICES) == 0) {
			blob_put_u64(content, section->len);
			blob_put(content, section->data, section->len);
		}
		if (snapshot_own(section->name))
			continue;
		blob_put(content, section->name, strlen(section->name) + 1);
		blob_put_u32(content, section->instance);
	}
	return content->failed ? failf(ENOMEM, "out of memory") : 0;
}

/* content is moved where there is no such shape yet. */
static struct shape *shape_get(struct pool *pool, struct blob *content)
{
	struct shape *shape = pool->shapes;

	while (shape && (shape->content.len != content->len ||
			 memcmp(shape->content.data, content->data, content->len) != 0))
		shape = shape->next;
	if (shape)
		return shape;
	shape = calloc(1, sizeof(*shape));
	if (!shape)
		return failf(ENOMEM, "out of memory"), NULL;
	*shape = (struct shape){ .next = pool->shapes, .content = *content };
	*content = (struct blob){ 0 };
	pool->shapes = shape;
	return shape;
}

struct function_version *shape_model(const struct pool *pool, const struct shape *shape)
{
	struct function_version *v = pool->versions;

	while (v && (v->shape != shape || v->unwanted))
		v = v->next;
	return v;
}

/* Nothing has that shape any more: its shells are of no use. */
static void shape_drop(struct pool *pool, struct shape *shape)
{
	struct shape **at = &pool->shapes;

	for (const struct function_version *v = pool->versions; v; v = v->next)
		if (v->shape == shape)
			return;
	while (shape->ready)
		pool_let_go(shape->ready);
	for (unsigned i = 0; i < pool->limits.shells; i++)
		if (pool->shells[i].shape == shape)
			pool->shells[i].shape = NULL;
	while (*at != shape)
		at = &(*at)->next;
	*at = shape->next;
	blob_fini(&shape->content);
	free(shape);
}

/* --- Versions --- */

/* Whether a machine of it can be put back to it. */
static void function_version_check(struct function_version *v, const struct snapshot *snapshot)
{
	for (unsigned i = 0; i < v->vcpu_count && !v->no_reset[0]; i++) {
		const struct state_section *section = state_find(&snapshot->state, "vcpu", i);

		if (section && vcpu_check_whole(section->data, section->len) < 0)
			snprintf(v->no_reset, sizeof(v->no_reset), "%s", error_text());
	}
}

struct function_version *function_version_new(struct pool *pool, struct sealed *sealed,
					      const char *name)
{
	struct sealed own = { .memory_fd = dup(sealed->memory_fd), .parts_fd = sealed->parts_fd };
	struct function_version *v = calloc(1, sizeof(*v));
	struct snapshot snapshot = { .memory_fd = -1 };
	struct blob shape = { 0 };
	int ret = v ? 0 : failf(ENOMEM, "out of memory");

	if (ret == 0)
		ret = own.memory_fd < 0
			      ? failf(errno, "no descriptor left (ulimit -n): %s", strerror(errno))
			      : sealed_open(&own, name, &snapshot);
	if (ret == 0)
		ret = shape_content(&snapshot, &shape);
	if (ret == 0) {
		*v = (struct function_version){
			.id = ++pool->version_ids,
			.users = 1,
			.sealed = *sealed,
			.loaded_s = time(NULL),
			.memory_size = snapshot.memory_size,
			.vcpu_count = snapshot.vcpu_count,
			.written_pages = snapshot.working_set.written_pages,
			.read_pages = snapshot.working_set.read_pages,
			.shape = shape_get(pool, &shape),
		};
		snprintf(v->name, sizeof(v->name), "%.70s", name);
		snapshot_version(&snapshot, v->tag);
		function_version_check(v, &snapshot);
		ret = v->shape ? 0 : -ENOMEM;
	}
	snapshot_close(&snapshot);
	blob_fini(&shape);
	if (ret < 0) {
		sealed_close(sealed);
		free(v);
		return NULL;
	}
	*sealed = (struct sealed){ .memory_fd = -1, .parts_fd = -1 };
	v->next = pool->versions;
	pool->versions = v;
	return v;
}

void function_version_put(struct pool *pool, struct function_version *version)
{
	struct function_version **at = &pool->versions;

	if (!version || --version->users)
		return;
	/* As long as the spawner has it its memory is not free, so it is told again. */
	if (version->told_at == pool->stats.spawner_starts &&
	    spawner_forget(&pool->spawner, version->id) == -EAGAIN) {
		version->users = 1;
		version->unwanted = true;
		pool->orders_wanted = true;
		pool_want_work(pool);
		return;
	}
	while (*at != version)
		at = &(*at)->next;
	*at = version->next;
	shape_drop(pool, version->shape);
	sealed_close(&version->sealed);
	free(version);
}

/* --- Functions --- */

struct function *function_new(struct pool *pool, struct function_config *config)
{
	struct function *f = calloc(1, sizeof(*f));

	if (!f)
		return failf(ENOMEM, "out of memory"), NULL;
	*f = (struct function){ .next = pool->functions, .pool = pool, .config = *config };
	f->target = f->config.pool_min;
	*config = (struct function_config){ 0 };
	pool->functions = f;
	return f;
}

/* Shells that wait and are of another version than new requests are to get. */
static void function_let_go(struct function *f, const struct function_version *keep)
{
	struct pool_shell *next;

	for (struct pool_shell *s = f->armed; s; s = next) {
		next = s->next;
		if (s->version != keep)
			pool_let_go(s);
	}
	for (struct pool_shell *s = f->kept; s; s = next) {
		next = s->next;
		if (s->version != keep)
			pool_let_go(s);
	}
}

void function_configure(struct pool *pool, struct function *f, struct function_config *config)
{
	const struct function_config *now = &f->config;
	bool told = config->policy != now->policy ||
		    config->environment_len != now->environment_len ||
		    (now->environment_len &&
		     memcmp(config->environment, now->environment, now->environment_len) != 0);

	function_config_fini(&f->config);
	f->config = *config;
	*config = (struct function_config){ 0 };
	if (f->target < f->config.pool_min)
		f->target = f->config.pool_min;
	if (f->target > f->config.pool_max)
		f->target = f->config.pool_max;
	/* Those that wait may have run by the old settings; those that run end with them. */
	if (told) {
		f->settings++;
		function_let_go(f, NULL);
	}
	pool_want_work(pool);
}

void function_set_version(struct pool *pool, struct function *f, struct function_version *version)
{
	struct function_version *old = f->version;

	f->version = version;
	function_let_go(f, version);
	function_version_put(pool, old);
	pool_want_work(pool);
}

/* Frees a removed function that nothing refers to any more. */
void function_sweep(struct pool *pool)
{
	struct function **at = &pool->functions;

	while (*at) {
		struct function *f = *at;

		if (!f->removed || f->alive || f->active || f->waiting) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		function_config_fini(&f->config);
		free(f);
	}
}

void function_remove(struct pool *pool, struct function *f)
{
	f->removed = true;
	f->target = 0;
	pool_fail_waiting(f, "the function was removed");
	function_set_version(pool, f, NULL);
}

struct function *function_find(const struct pool *pool, const char *name, size_t len)
{
	struct function *f = pool->functions;

	while (f && (f->removed || strlen(f->config.name) != len ||
		     memcmp(f->config.name, name, len) != 0))
		f = f->next;
	return f;
}
