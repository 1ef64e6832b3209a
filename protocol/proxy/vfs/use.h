/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the links that do direct I/O have to know of each other
 * (smbdirect_area.h, "USE"): the memory, which they write as well, and who has
 * which row of it. Of this process, and made with the first link that asks for
 * the table. What a link writes there can stop its own client's channels alone:
 * all links of a process are one client's.
 */
#ifndef USE_H
#define USE_H

#include <stdbool.h>
#include <stdint.h>

#define SMBDIRECT_NO_ROW (-1)

/* The memory's descriptor, which stays ours; -1: *why says why there is none.
 */
int smbdirect_use_memory(const char **why);

struct smbdirect_link;

/* A row that nobody has, for this link; SMBDIRECT_NO_ROW: there is none. */
int smbdirect_use_row_take(const struct smbdirect_link *link);

/*
 * Its link has ended. gone: the other side has let go of it, and does nothing
 * any more; else the row is nobody's ever again, for its marks may change yet.
 */
void smbdirect_use_row_leave(int row, bool gone);

/* An open gets this slot. */
void smbdirect_use_begin(unsigned slot, uint32_t generation, uint16_t sequence);

/*
 * That open is closed, and may do nothing any more, whatever the way on which
 * it came to that: no link begins a WRITE of it from here on, and this waits
 * for those under way, for a while. It is the last resort: smbd has let others
 * have the file already. The daemon waits before it passes on what closes
 * files, and ending.c before smbd hears of messages that do.
 */
void smbdirect_use_end(unsigned slot);

/* A WRITE is under way on some slot. None begins where the word is cleared. */
bool smbdirect_use_any(void);

/*
 * smbd has seen that sequence of the open: it came by a link, which has raised
 * it, or by a connection of the client's that has none. Then no link begins a
 * WRITE with an older one from here on, and this waits for those under way, for
 * a while: they may be at a disk.
 */
void smbdirect_use_raise(unsigned slot, uint32_t generation, uint16_t sequence);

/* A link has begun a WRITE of it that has not ended. */
bool smbdirect_use_under_way(unsigned slot);

#endif
