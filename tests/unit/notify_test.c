/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * notify_test.c - what the service manager is told, and when nobody is: user/common/notify.h.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/notify.h"

#define LONG 600 /* bytes; more than a message has */

/* A manager at this address, as $NOTIFY_SOCKET has it. Its socket. */
static int manager_open(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path, name, strlen(name));
	if (*name == '@')
		address.sun_path[0] = 0;
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static void assert_hears(int fd, const char *message)
{
	char heard[2 * LONG];
	ssize_t n = recv(fd, heard, sizeof(heard) - 1, 0);

	assert_true(n >= 0);
	heard[n] = 0;
	assert_string_equal(heard, message);
}

static void address_is_a_path_or_abstract(void **state)
{
	char names[2][64];

	(void)state;
	snprintf(names[0], sizeof(names[0]), "/tmp/shunt-notify-%d", getpid());
	snprintf(names[1], sizeof(names[1]), "@shunt-notify-%d", getpid());
	for (int i = 0; i < 2; i++) {
		int fd = manager_open(names[i]);

		notify_send("READY=1");
		notify_send("STATUS=%d backends", 3);
		assert_hears(fd, "READY=1");
		assert_hears(fd, "STATUS=3 backends");
		close(fd);
		notify_send("READY=1"); /* to nobody */
		unlink(names[i]);
	}
}

static void manager_that_takes_nothing_stops_nobody(void **state)
{
	char name[64], text[LONG + 1];
	int fd;

	(void)state;
	memset(text, 'x', LONG);
	text[LONG] = 0;
	snprintf(name, sizeof(name), "@shunt-notify-%d", getpid());
	fd = manager_open(name);
	for (int i = 0; i < 2000; i++)
		notify_send("%s", text); /* and what is too long is cut */
	text[511] = 0;
	assert_hears(fd, text);
	close(fd);
}

static void without_a_manager_nothing_happens(void **state)
{
	char path[200];

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	notify_send("READY=1");
	setenv("NOTIFY_SOCKET", "", 1);
	notify_send("READY=1");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	setenv("NOTIFY_SOCKET", path, 1);
	notify_send("READY=1");
}

static void watchdog_is_that_of_this_process(void **state)
{
	char pid[16];

	(void)state;
	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
	assert_int_equal(notify_watchdog_ns(), 0);
	setenv("WATCHDOG_USEC", "10000000", 1);
	assert_int_equal(notify_watchdog_ns(), 10000000000ULL);
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(notify_watchdog_ns(), 10000000000ULL);
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(notify_watchdog_ns(), 0);
	unsetenv("WATCHDOG_PID");
	setenv("WATCHDOG_USEC", "often", 1);
	assert_int_equal(notify_watchdog_ns(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_is_a_path_or_abstract),
		cmocka_unit_test(manager_that_takes_nothing_stops_nobody),
		cmocka_unit_test(without_a_manager_nothing_happens),
		cmocka_unit_test(watchdog_is_that_of_this_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
