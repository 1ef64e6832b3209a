/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol/proxy/smbdirect_area.h"
#include "protocol/proxy/vfs/life.h"

/* What others read is the word that the kernel writes */
_Static_assert(offsetof(pthread_mutex_t, __data.__lock) == 0,
	       "the futex comes first");
_Static_assert(sizeof(pthread_mutex_t) <= SMBDIRECT_LIFE_WORDS * 8,
	       "it has room");

static int lock_robust(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attributes;
	int error;

	error = pthread_mutexattr_init(&attributes);
	if (error != 0) {
		return error;
	}
	error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (error == 0) {
		error = pthread_mutexattr_setpshared(&attributes,
						     PTHREAD_PROCESS_SHARED);
	}
	if (error == 0) {
		error = pthread_mutex_init(mutex, &attributes);
	}
	pthread_mutexattr_destroy(&attributes);
	return error != 0 ? error : pthread_mutex_lock(mutex);
}

bool smbdirect_life_begin(void *memory)
{
	const uint32_t *word = memory;
	int error = lock_robust(memory);

	if (error != 0) {
		errno = error;
		return false;
	}
	if ((*word & SMBDIRECT_LIFE_HOLDER) != (uint32_t)syscall(SYS_gettid)) {
		errno = ENOTSUP;
		return false;
	}
	return true;
}
