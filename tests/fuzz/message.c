/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a confined process may send to those that are not: datagrams of any length with any number
 * of descriptors. Each is received whole or refused, and none of its descriptors stays open.
 */
#include "serve/ipc/message.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/lib/bytes.h"
#include "tests/fuzz/lib/fds.h"

#define FDS_MAX 40u
#define HEADER  16u /* as message.c has it: type, value, id */

static void send_raw(int socket, const void *data, size_t len, unsigned fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(fds * sizeof(int));
		for (unsigned i = 0; i < fds; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &(int){ socket },
			       sizeof(int));
	}
	sendmsg(socket, &msg, MSG_DONTWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct message m;
	struct bytes in = { data, size };
	int pair[2], ret;
	unsigned before = fds_open();

	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	while (in.left) {
		unsigned fds = bytes_below(&in, FDS_MAX);
		uint8_t header[HEADER], pad = bytes_u8(&in);
		size_t len;
		const uint8_t *at;

		if (fds > 4 && pad & 15)
			fds %= 3;
		if (pad & 1) {
			at = bytes_take(&in, bytes_u8(&in), &len);
		} else {
			/* No text behind it. */
			bytes_fill(&in, header, sizeof(header));
			len = sizeof(header);
			at = header;
		}
		send_raw(pair[0], at, len, fds);
		ret = message_receive(pair[1], &m);
		must(ret == 1 || ret == 0 || ret == -EAGAIN || ret == -EPROTO);
		if (ret != 1)
			continue;
		must(m.text_len <= MESSAGE_TEXT_MAX && m.text[m.text_len] == 0);
		must(m.fd_count <= MESSAGE_FDS_MAX);
		message_close_fds(&m);
	}
	close(pair[0]);
	close(pair[1]);
	must(fds_open() == before);
	return 0;
}
