/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands, a file each, as the table in vmm.c names them. Each prints all that it has to say and
 * returns the exit status (vmm.h).
 */
#ifndef VIRGA_SERVE_CLI_COMMAND_H
#define VIRGA_SERVE_CLI_COMMAND_H

#include "serve/cli/options.h"

int run_command(const struct options *options);
int restore_command(const struct options *options);
int clone_command(const struct options *options);
int invoke_command(const struct options *options);
int snapshot_command(const struct options *options);
int inspect_command(const struct options *options);
int devices_command(const struct options *options);
int serve_command(const struct options *options);
int status_command(const struct options *options);
int template_build_command(const struct options *options);
int template_list_command(const struct options *options);
int template_check_command(const struct options *options);
int template_rm_command(const struct options *options);
int template_export_command(const struct options *options);
int template_import_command(const struct options *options);

/* Says the stored sentence after the command's name; returns the status for it. */
int command_failed(const char *name, int status);

#endif
