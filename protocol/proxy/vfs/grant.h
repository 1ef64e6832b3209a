/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The opens that workers may read and write themselves, and the table of slots
 * that says to all links of this process, at every moment, what they may.
 *
 * An open that may be granted has a record, an extension of its files_struct,
 * and gets a slot once there is a table and its lease lets something be done.
 * The table is made when the first link asks for it: a sealed memfd, which the
 * links map and nobody else can write. When this process dies the links end,
 * and with them whatever was granted.
 */
#ifndef GRANT_H
#define GRANT_H

#include "protocol/proxy/vfs/packet.h"

/* The table's descriptor, which stays ours; -1: *why says why there is none. */
int smbdirect_grant_table(const char **why);

/* After a CREATE or a durable reconnect. access: of enum smbdirect_rights. */
void smbdirect_grant_opened(struct vfs_handle_struct *handle,
			    struct files_struct *fsp,
			    uint32_t access);

/*
 * smbd closes the file: its word is 0 from here on. Of a durable open that it
 * keeps for a while, before it lets go of it; else after that.
 */
void smbdirect_grant_closing(struct vfs_handle_struct *handle,
			     struct files_struct *fsp);

/*
 * smbd is about to set the file's times. After it has set the write time at
 * once, only a WRITE that it does itself has it do so again at the close, and
 * tell who watches: until then no link writes there.
 */
void smbdirect_grant_times(struct vfs_handle_struct *handle,
			   struct files_struct *fsp);

/* smbd is about to read or write there: the lease may be another by now. */
void smbdirect_grant_ask(struct vfs_handle_struct *handle,
			 struct files_struct *fsp);

/* No open may be read or written by anybody but smbd, until the next one. */
void smbdirect_grant_withdraw_all(void);
void smbdirect_grant_ask_all(void);

/* What a break has withdrawn comes back: it changes leases, and nothing else.
 */
void smbdirect_grant_restore_all(void);

/* What a link has to know of a slot. */
struct smbdirect_grant {
	uint32_t generation; /* 0: no open is there */
	uint32_t rights;     /* what may be done now */
};

/* One after the last slot that was ever used. */
unsigned smbdirect_grant_slots(void);

struct smbdirect_grant smbdirect_grant_look(unsigned slot);

/* The GRANT of a slot where an open is, and the descriptor to send with it. */
int smbdirect_grant_packet(unsigned slot, struct smbdirect_packet *packet);

#endif
