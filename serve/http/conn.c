/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of the front as memory, headers and a place in the list (serve/http/conn.h): what
 * parsing, answering and accepting need of it. It calls none of them.
 */
#include "serve/http/conn.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "arch/base/clock.h"

void http_unlink(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (s->first == c)
		s->first = c->next;
	else
		c->previous->next = c->next;
	if (s->last == c)
		s->last = c->previous;
	else
		c->next->previous = c->previous;
}

void http_link(struct http_conn *c)
{
	struct http_server *s = c->server;

	c->next = NULL;
	c->previous = s->last;
	*(s->last ? &s->last->next : &s->first) = c;
	s->last = c;
}

bool http_idle(const struct http_conn *c)
{
	return c->state == HTTP_READING && c->in_len == 0 && !c->head_done;
}

void http_free(struct http_conn *c)
{
	c->server->held_bytes -= c->heap_size + (c->out ? c->out_len : 0);
	free(c->heap);
	free(c->out);
	free(c);
}

void http_close(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (c->state == HTTP_DEAD)
		return;
	if (c->state == HTTP_HANDLING)
		s->handler->gone(s->handler->opaque, c);
	c->state = HTTP_DEAD;
	timer_clear(s->timers, &c->timer);
	loop_remove(s->loop, c->watch);
	close(c->fd);
	http_unlink(c);
	s->count--;
	if (!c->pumping)
		http_free(c);
}

bool http_make_memory(struct http_conn *c, size_t bytes)
{
	struct http_server *s = c->server;
	struct http_conn *next;

	for (struct http_conn *other = s->first; other && s->held_bytes + bytes > HTTP_HELD_MAX;
	     other = next) {
		next = other->next;
		if (other == c || other->state == HTTP_HANDLING ||
		    (!other->heap_size && !other->out))
			continue;
		s->broken++;
		http_close(other);
	}
	return s->held_bytes + bytes <= HTTP_HELD_MAX;
}

void http_wait(struct http_conn *c, unsigned ms)
{
	timer_set(c->server->timers, &c->timer, monotonic_us() + ms * 1000ull);
}

void http_expect_events(struct http_conn *c, uint32_t events)
{
	if (events != c->events)
		loop_modify(c->server->loop, c->watch, events);
	c->events = events;
}

bool http_make_room(struct http_server *s)
{
	struct http_conn *c = s->first, *slow = NULL;

	if (s->count < HTTP_CONNECTIONS_MAX)
		return true;
	while (c && !http_idle(c)) {
		if (!slow && c->state == HTTP_READING && !c->due)
			slow = c;
		c = c->next;
	}
	s->broken += !c && slow;
	c = c ? c : slow;
	if (c)
		http_close(c);
	return c != NULL;
}

/* --- Headers --- */

bool http_is(const struct http_text *text, const char *word)
{
	return text->len == strlen(word) && strncasecmp(text->data, word, text->len) == 0;
}

const struct http_text *http_header(const struct http_conn *c, const char *name)
{
	for (unsigned i = 0; i < c->header_count; i++)
		if (http_is(&c->headers[i].name, name))
			return &c->headers[i].value;
	return NULL;
}
