/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See serve/pool/function_config.h.
 */
#include "serve/pool/function_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/base/error.h"

bool function_name_valid(const char *name, size_t len)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-";

	for (size_t i = 0; i < len; i++)
		if (!name[i] || !strchr(letters, name[i]))
			return false;
	return len >= 1 && len <= 64;
}

const char *const policy_names[] = {
	[POLICY_ONCE] = "once",
	[POLICY_RESET] = "reset",
	[POLICY_KEEP] = "keep",
	NULL,
};

const char *policy_name(enum policy policy)
{
	return policy_names[policy];
}

int function_config_init(struct function_config *f, const char *name, const char *template)
{
	*f = (struct function_config){
		.timeout_ms = 3000,
		.concurrency = 100,
		.queue = 100,
		.policy = POLICY_ONCE,
		.idle_timeout_ms = 300000,
		.pool_min = 2,
		.pool_max = 64,
		.pool_refill = 1000,
	};
	f->name = strdup(name);
	f->template = template ? strdup(template) : NULL;
	if (f->name && (f->template || !template))
		return 0;
	function_config_fini(f);
	return failf(ENOMEM, "out of memory");
}

void function_config_fini(struct function_config *f)
{
	free(f->name);
	free(f->template);
	free(f->environment);
	*f = (struct function_config){ 0 };
}
