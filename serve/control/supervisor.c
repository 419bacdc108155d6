/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor's life (serve/control/supervisor.h): one loop over the VM process, its pidfd,
 * signals and the control socket; then the verdict.
 */
#include "serve/control/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/base/error.h"
#include "arch/base/signals.h"
#include "arch/base/unix_path.h"
#include "serve/control/socket.h"
#include "serve/control/terminal.h"
#include "serve/control/vm_process.h"
#include "vmm.h"

struct supervisor {
	const struct supervisor_options *options;
	struct loop loop;
	pthread_mutex_t lock; /* the loop's; nobody else takes it */
	struct control_socket control;
	struct vm_process process;
	struct terminal terminal;
	const char *control_path; /* NULL when there is none */
	int pid_fd;
	int signal_fd;
	int key_fd; /* the terminal; -1 when there is none */
};

int supervisor_listen(const char *path)
{
	return unix_path_listen(path);
}

static void supervisor_signal(void *opaque, uint32_t events)
{
	struct supervisor *s = opaque;
	struct signalfd_siginfo info;

	(void)events;
	if (read(s->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCONT)
		terminal_raw(&s->terminal);
	else
		vm_process_quit(&s->process, (int)info.ssi_signo);
}

/* A shell that brings us to the foreground without having stopped us says nothing: a line does. */
static void supervisor_key(void *opaque, uint32_t events)
{
	struct supervisor *s = opaque;

	(void)events;
	terminal_raw(&s->terminal);
}

static void supervisor_child_dead(void *opaque, uint32_t events)
{
	struct supervisor *s = opaque;

	(void)events;
	vm_process_dead(&s->process);
	loop_stop(&s->loop);
}

static int supervisor_watch_signals(struct supervisor *s)
{
	sigset_t set, goes_on;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signals_block_ends();
	if (s->options->terminal) {
		sigemptyset(&goes_on);
		sigaddset(&goes_on, SIGCONT);
		pthread_sigmask(SIG_BLOCK, &goes_on, NULL);
		sigaddset(&set, SIGCONT);
	}
	s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0)
		return failf(errno, "cannot watch signals: %s", strerror(errno));
	return loop_add(&s->loop, s->signal_fd, EPOLLIN, supervisor_signal, s) ? 0 : -ENOMEM;
}

static int supervisor_watch_child(struct supervisor *s)
{
	s->pid_fd = (int)syscall(SYS_pidfd_open, s->process.child, 0);
	if (s->pid_fd < 0)
		return failf(errno, "cannot watch the VM process (Linux 5.3 or later can): %s",
			     strerror(errno));
	return loop_add(&s->loop, s->pid_fd, EPOLLIN, supervisor_child_dead, s) ? 0 : -ENOMEM;
}

static int supervisor_take_terminal(struct supervisor *s)
{
	terminal_raw(&s->terminal);
	if (!isatty(STDIN_FILENO))
		return 0;
	/* One of our own: the VM process closes what our loop watches. */
	s->key_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (s->key_fd < 0)
		return failf(errno, "cannot watch the terminal: %s", strerror(errno));
	return loop_add(&s->loop, s->key_fd, EPOLLIN | EPOLLET, supervisor_key, s) ? 0 : -ENOMEM;
}

static int supervisor_init(struct supervisor *s, const struct supervisor_options *options)
{
	const struct config *config = options->config;
	int ret;

	pthread_mutex_init(&s->lock, NULL);
	loop_init(&s->loop);
	ret = vm_process_init(&s->process, &s->loop, &s->control, config, options->devices);
	if (socket_init(&s->control, &s->loop, options->control_fd, &s->process.view) < 0)
		ret = -ENOMEM;
	if (options->control_fd >= 0)
		s->control_path = config->control;
	if (ret == 0)
		ret = supervisor_watch_signals(s);
	if (ret == 0 && options->terminal)
		ret = supervisor_take_terminal(s);
	return ret;
}

/* The VM process: nothing of its supervisor's is left open in it but its end of the pair. */
static int supervisor_vm(void *opaque, int fd)
{
	struct supervisor *s = opaque;

	listener_spare_fini(&s->control.spare);
	return s->options->vm(s->options->opaque, fd);
}

static int supervisor_start(struct supervisor *s)
{
	int ret = vm_process_start(&s->process, supervisor_vm, s);

	return ret < 0 ? ret : supervisor_watch_child(s);
}

static void supervisor_fini(struct supervisor *s)
{
	vm_process_fini(&s->process);
	socket_fini(&s->control);
	unix_path_remove_dead(s->control_path);
	if (s->signal_fd >= 0)
		close(s->signal_fd);
	if (s->pid_fd >= 0)
		close(s->pid_fd);
	if (s->key_fd >= 0)
		close(s->key_fd);
	terminal_restore(&s->terminal);
	loop_fini(&s->loop);
}

/* Reaps the VM process, says how the machine ended, and returns the exit status. */
static int supervisor_verdict(const struct vm_process *p)
{
	int how = 0;

	while (p->child && waitpid(p->child, &how, 0) < 0 && errno == EINTR)
		;
	if (p->ended && p->verdict[0])
		notef("%s", p->verdict);
	if (!p->child && !p->ended)
		return STATUS_VIRGA;
	if (p->ended && (p->killed || !WIFSIGNALED(how)))
		return p->status;
	if (WIFSIGNALED(how) && WTERMSIG(how) == SIGSYS)
		notef("the VM process was killed by its system call filter (SIGSYS)");
	else if (WIFSIGNALED(how))
		notef("the VM process was killed by signal %d (%s)", WTERMSIG(how),
		      strsignal(WTERMSIG(how)));
	else if (WEXITSTATUS(how) != STATUS_VIRGA) /* that of what says why itself (sigbus.h) */
		notef("the VM process ended with status %d and did not say why", WEXITSTATUS(how));
	return STATUS_VIRGA;
}

int supervisor_run(const struct supervisor_options *options)
{
	struct supervisor s = { .options = options, .pid_fd = -1, .signal_fd = -1, .key_fd = -1 };
	int ret = supervisor_init(&s, options);

	if (ret == 0)
		ret = supervisor_start(&s);
	if (ret == 0)
		ret = loop_run(&s.loop, &s.lock);
	if (ret < 0) {
		notef("the supervisor failed: %s", error_text());
		if (s.process.child)
			kill(s.process.child, SIGKILL);
	}
	supervisor_fini(&s);
	return supervisor_verdict(&s.process);
}
