/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the whole program shares: its version, and the exit statuses that virga(1) promises.
 */
#ifndef VIRGA_VMM_H
#define VIRGA_VMM_H

#define VIRGA_VERSION "0.1.0"

enum exit_status {
	STATUS_HOST = 1,      /* the host failed, or the guest does not do its part */
	STATUS_ERROR = 1,     /* the guest answered with an error */
	STATUS_BAD_INPUT = 2, /* a command line, file or name that cannot be used */
	/* Of commands whose status can be the guest's own (run, restore, clone, invoke): */
	STATUS_TIMEOUT = 124,
	STATUS_VIRGA = 125, /* virga or the host failed, or bad input */
	STATUS_CRASH = 126, /* the guest crashed */
};

#endif
