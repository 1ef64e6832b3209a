/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the links that do direct I/O have been told of the slots: TABLE, GRANT,
 * RIGHTS, CLOSED. A link that has fallen behind is told nothing of it until it
 * has read, and then what is different from what it was told last; it misses
 * what was only in between. The words in the table do not wait for it.
 */
#ifndef TELL_H
#define TELL_H

#include "protocol/proxy/vfs/packet.h"

struct smbdirect_link;

/* It has asked for it. False when it had before. */
bool smbdirect_tell_begin(struct smbdirect_link *link);

/* gone: as for smbdirect_use_row_leave(). */
void smbdirect_tell_end(struct smbdirect_link *link, bool gone);

/* It has read, and there is room. */
void smbdirect_tell_continue(struct smbdirect_link *link);

/* Something about that slot has changed. */
void smbdirect_tell_slot(unsigned slot);

/* Something that is not about a slot. False when no link does direct I/O. */
bool smbdirect_tell_all(const struct smbdirect_packet *packet);

#endif
