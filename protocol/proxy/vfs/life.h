/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sign of life in the table of slots (smbdirect_area.h): a robust mutex in
 * shared memory, which this process locks and never unlocks. When it dies, even
 * by SIGKILL, the kernel marks that before it closes the first descriptor, and
 * so before another smbd can find that the leases of this one are nobody's.
 * What links learn from the end of their sockets they may learn late.
 */
#ifndef LIFE_H
#define LIFE_H

#include <stdbool.h>

/*
 * memory: SMBDIRECT_LIFE_WORDS words, shared. It is held by the calling thread,
 * which has to be the one whose end is that of the process. False: errno.
 */
bool smbdirect_life_begin(void *memory);

#endif
