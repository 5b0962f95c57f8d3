/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * beat.h - for engines: say that you still move. Call shunt_beat() from the loop that does the work, not from a thread
 * beside it: what is proved is that this loop turns. When the newest beat is older than the limit in agent.yaml
 * (`engine: {beat: {limit: 500ms}}`), the balancers send this host's connections elsewhere.
 *
 * One store of 8 bytes into memory that the kernel's reflector reads; no system call but the clock's, which is none.
 * The memory comes from shunt-agent over its socket, so that the engine needs no capability, nor a view of a bpffs.
 * Needs nothing but the C library. The same for Python: tools/examples/beat.py.
 */
#ifndef SHUNT_BEAT_H
#define SHUNT_BEAT_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/*
 * The memory to beat in, from the agent's socket (NULL: /run/shunt/beat.sock); NULL and errno if there is none. Shared by
 * the processes that this one forks. An agent that ended and was started anew has other memory, unless the configuration
 * pins it (`beat: {pin: PATH}`): attach again then.
 */
static inline uint64_t *shunt_beat_attach(const char *path)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct sockaddr_un address;
	struct msghdr message;
	struct iovec data;
	char byte;
	void *memory = MAP_FAILED;
	struct cmsghdr *header;
	int s, fd, err;

	memset(&address, 0, sizeof(address));
	memset(&message, 0, sizeof(message));
	data.iov_base = &byte;
	data.iov_len = 1;
	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control.bytes;
	message.msg_controllen = sizeof(control.bytes);
	address.sun_family = AF_UNIX;
	path = path ? path : "/run/shunt/beat.sock";
	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	memcpy(address.sun_path, path, strlen(path));
	s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0)
		return NULL;
	if (!connect(s, (struct sockaddr *)&address, sizeof(address)) && recvmsg(s, &message, MSG_CMSG_CLOEXEC) == 1) {
		header = CMSG_FIRSTHDR(&message);
		if (header && header->cmsg_type == SCM_RIGHTS) {
			memcpy(&fd, CMSG_DATA(header), sizeof(fd));
			memory = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			err = errno;
			close(fd);
			errno = err;
		}
	}
	err = errno;
	close(s);
	errno = err;
	return memory == MAP_FAILED ? NULL : (uint64_t *)memory;
}

static inline void shunt_beat(uint64_t *beat)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	__atomic_store_n(beat, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec, __ATOMIC_RELAXED);
}

#endif
