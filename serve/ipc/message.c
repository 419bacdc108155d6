/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between processes (serve/ipc/message.h): one datagram each, a fixed header, then the
 * text; descriptors ride along (unix(7), SCM_RIGHTS).
 */
#include "serve/ipc/message.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct message_header {
	uint32_t type;
	uint32_t value;
	uint64_t id;
};

#define MESSAGE_CONTROL_LEN CMSG_SPACE(sizeof(int) * MESSAGE_FDS_MAX)

void message_init(struct message *m, enum message_type type)
{
	m->type = type;
	m->value = 0;
	m->id = 0;
	m->text_len = 0;
	m->fd_count = 0;
	m->text[0] = '\0';
}

void message_set_text(struct message *m, const char *text)
{
	size_t len = strnlen(text, MESSAGE_TEXT_MAX);

	memcpy(m->text, text, len);
	m->text[len] = '\0';
	m->text_len = (uint32_t)len;
}

static int message_put(int fd, const struct message *m, int flags)
{
	struct message_header head = { .type = m->type, .value = m->value, .id = m->id };
	struct iovec parts[2] = { { .iov_base = &head, .iov_len = sizeof(head) },
				  { .iov_base = (void *)m->text, .iov_len = m->text_len } };
	union {
		struct cmsghdr align;
		char bytes[MESSAGE_CONTROL_LEN];
	} control = { .bytes = { 0 } };
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t sent;

	if (m->text_len > MESSAGE_TEXT_MAX || m->fd_count > MESSAGE_FDS_MAX)
		return -EMSGSIZE;
	if (m->fd_count) {
		size_t len = sizeof(int) * m->fd_count;
		struct cmsghdr *rights = &control.align;

		msg.msg_control = control.bytes;
		msg.msg_controllen = (socklen_t)CMSG_SPACE(len);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = (socklen_t)CMSG_LEN(len);
		memcpy(CMSG_DATA(rights), m->fds, len);
	}
	do
		sent = sendmsg(fd, &msg, MSG_NOSIGNAL | flags);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

int message_send(int fd, const struct message *m)
{
	return message_put(fd, m, 0);
}

int message_try(int fd, const struct message *m)
{
	return message_put(fd, m, MSG_DONTWAIT);
}

/* Every descriptor that came is taken, in whatever control messages: none may leak. */
static void message_take_fds(struct message *m, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (m->fd_count < MESSAGE_FDS_MAX)
				m->fds[m->fd_count++] = fd;
			else
				close(fd);
		}
	}
}

static int message_get(int fd, struct message *m, int flags)
{
	struct message_header head = { 0 };
	struct iovec parts[2] = { { .iov_base = &head, .iov_len = sizeof(head) } };
	union {
		struct cmsghdr align;
		char bytes[MESSAGE_CONTROL_LEN];
	} control = { .bytes = { 0 } };
	struct msghdr msg = { .msg_iov = parts,
			      .msg_iovlen = 2,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	ssize_t len;

	message_init(m, 0);
	parts[1] = (struct iovec){ .iov_base = m->text, .iov_len = MESSAGE_TEXT_MAX };
	/* A peer that died with messages unread: that is told once, before what it had sent. */
	do
		len = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
	while (len < 0 && (errno == EINTR || errno == ECONNRESET));
	if (len < 0)
		return -errno;
	message_take_fds(m, &msg);
	if (len == 0 && !m->fd_count)
		return 0;
	if ((size_t)len < sizeof(head) || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		message_close_fds(m);
		return -EPROTO;
	}
	m->type = head.type;
	m->value = head.value;
	m->id = head.id;
	m->text_len = (uint32_t)((size_t)len - sizeof(head));
	m->text[m->text_len] = '\0';
	return 1;
}

int message_receive(int fd, struct message *m)
{
	return message_get(fd, m, MSG_DONTWAIT);
}

int message_wait(int fd, struct message *m)
{
	return message_get(fd, m, 0);
}

void message_close_fds(struct message *m)
{
	for (uint32_t i = 0; i < m->fd_count; i++) {
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	}
	m->fd_count = 0;
}
