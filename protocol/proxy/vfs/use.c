/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "includes.h"
#include "smbd/smbd.h"
#include <sys/mman.h>

#include "protocol/proxy/smbdirect_area.h"
#include "protocol/proxy/vfs/link.h"
#include "protocol/proxy/vfs/use.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

#define WAIT_US 500
#define WAITS_MAX 2000

#define USE_SIZE SMBDIRECT_USE_SIZE(SMBDIRECT_SLOTS_MAX)

static struct {
	int fd;
	uint64_t *sequences;
	uint32_t *marks;
	unsigned used; /* slots[used] and what follows never were */
	bool taken[SMBDIRECT_USE_ROWS];
	const struct smbdirect_link *links[SMBDIRECT_USE_ROWS]; /* while up */
} use = {
	.fd = -1,
};

int smbdirect_use_memory(const char **why)
{
	void *memory = MAP_FAILED;
	int fd;

	if (use.fd != -1) {
		return use.fd;
	}
	fd = memfd_create("smbdirect-use", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd != -1 && ftruncate(fd, USE_SIZE) == 0) {
		memory = mmap(NULL,
			      USE_SIZE,
			      PROT_READ | PROT_WRITE,
			      MAP_SHARED,
			      fd,
			      0);
	}
	if (memory == MAP_FAILED ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
	{
		*why = strerror(errno);
		if (memory != MAP_FAILED) {
			munmap(memory, USE_SIZE);
		}
		if (fd != -1) {
			close(fd);
		}
		return -1;
	}
	madvise(memory, USE_SIZE, MADV_DONTFORK);
	use.fd = fd;
	use.sequences = memory;
	use.marks = (uint32_t *)(use.sequences + SMBDIRECT_SLOTS_MAX);
	return fd;
}

int smbdirect_use_row_take(const struct smbdirect_link *link)
{
	int row;

	for (row = 0; row < SMBDIRECT_USE_ROWS; row++) {
		if (!use.taken[row]) {
			use.taken[row] = true;
			use.links[row] = link;
			return row;
		}
	}
	return SMBDIRECT_NO_ROW;
}

void smbdirect_use_row_leave(int row, bool gone)
{
	unsigned slot;

	if (row == SMBDIRECT_NO_ROW) {
		return;
	}
	use.links[row] = NULL;
	if (!gone) {
		return;
	}
	for (slot = 0; slot < use.used; slot++) {
		__atomic_store_n(&use.marks[slot * SMBDIRECT_USE_ROWS + row],
				 0,
				 __ATOMIC_SEQ_CST);
	}
	use.taken[row] = false;
}

void smbdirect_use_begin(unsigned slot, uint32_t generation, uint16_t sequence)
{
	use.used = MAX(use.used, slot + 1);
	__atomic_store_n(&use.sequences[slot],
			 (uint64_t)generation << 32 | sequence,
			 __ATOMIC_SEQ_CST);
}

/* MS-SMB2 3.3.5.2.10: numbers that wrap around. */
static bool is_older(unsigned a, unsigned b)
{
	return (int16_t)(uint16_t)(b - a) > 0;
}

/* newer: than those that count; NULL: all do. */
static bool under_way(unsigned slot, const uint16_t *newer)
{
	unsigned row;

	for (row = 0; row < SMBDIRECT_USE_ROWS; row++) {
		uint32_t mark = __atomic_load_n(
			&use.marks[slot * SMBDIRECT_USE_ROWS + row],
			__ATOMIC_SEQ_CST);

		if (SMBDIRECT_USE_MARK_COUNT(mark) == 0 ||
		    (newer != NULL &&
		     !is_older(SMBDIRECT_USE_MARK_SEQUENCE(mark), *newer)))
		{
			continue;
		}
		/* The dead leave marks, of which the loop hears later */
		if (use.links[row] == NULL ||
		    !smbdirect_link_dead(use.links[row]))
		{
			return true;
		}
	}
	return false;
}

static void wait_for(unsigned slot, const uint16_t *newer, const char *what)
{
	unsigned waited;

	for (waited = 0; under_way(slot, newer); waited++) {
		if (waited == WAITS_MAX) {
			DBG_WARNING("smbdirect: a WRITE of %s does not end\n",
				    what);
			return;
		}
		usleep(WAIT_US);
	}
}

void smbdirect_use_end(unsigned slot)
{
	/* Nobody's: whoever has marked one and looks does not begin it */
	__atomic_store_n(&use.sequences[slot], 0, __ATOMIC_SEQ_CST);
	wait_for(slot, NULL, "an open that is closed");
}

bool smbdirect_use_any(void)
{
	unsigned slot;

	for (slot = 0; slot < use.used; slot++) {
		if (under_way(slot, NULL)) {
			return true;
		}
	}
	return false;
}

void smbdirect_use_raise(unsigned slot, uint32_t generation, uint16_t sequence)
{
	uint64_t word = __atomic_load_n(&use.sequences[slot], __ATOMIC_SEQ_CST);

	if (!is_older(SMBDIRECT_USE_SEQUENCE(word), sequence)) {
		return;
	}
	do {
		if (!is_older(SMBDIRECT_USE_SEQUENCE(word), sequence)) {
			break;
		}
	} while (!__atomic_compare_exchange_n(&use.sequences[slot],
					      &word,
					      (uint64_t)generation << 32 |
						      (word &
						       SMBDIRECT_USE_CLOSING) |
						      sequence,
					      false,
					      __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	wait_for(slot, &sequence, "a connection that its client has lost");
}

bool smbdirect_use_under_way(unsigned slot)
{
	return under_way(slot, NULL);
}
