/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * privileges.c - see privileges.h. By the system calls themselves, of which there are few enough to need no library.
 */
#include "common/privileges.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The three sets of this thread, 32 bits of each in each element. 0 or -errno. */
static int sets(long call, struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3])
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

	return syscall(call, &header, data) ? -errno : 0;
}

int privileges_keep(uint64_t set)
{
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	int err;

	/* What a program that we execute could have. Without CAP_SETPCAP that stays what it is: no_new_privs is enough then. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (!(set >> cap & 1) && prctl(PR_CAPBSET_READ, cap) && prctl(PR_CAPBSET_DROP, cap) && errno != EPERM)
			return -errno;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return -errno;
	err = sets(SYS_capget, data);
	for (int i = 0; !err && i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= (uint32_t)(set >> 32 * i);
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	err = err ? err : sets(SYS_capset, data);
	return !err && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : err;
}

bool privileges_have(uint64_t set)
{
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	return !sets(SYS_capget, data) && !(set & ~((uint64_t)data[1].effective << 32 | data[0].effective));
}
