/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of vsock connection 0: the function channel (devices/channel/channel.h), which is the
 * connection's `opaque`.
 */
#ifndef VIRGA_DEVICES_VSOCK_CHANNEL_END_H
#define VIRGA_DEVICES_VSOCK_CHANNEL_END_H

#include "devices/vsock/vsock.h"

/* The channel takes all it gets at once, so this costs no memory. */
#define VSOCK_CHANNEL_BUF (1u << 20)

extern const struct vsock_end vsock_channel_end;

/* Whether what was saved of the connection could be: it is checked as if the guest had written it. */
bool vsock_channel_valid(const struct vsock_conn *c);

#endif
