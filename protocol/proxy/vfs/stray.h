/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An smbd process whose client is gone, and that does not know it: it keeps the
 * client's files open until somebody breaks another of its leases, and whoever
 * waits for the client's answer to a break waits until smbd gives that up, 35
 * seconds.
 */
#ifndef STRAY_H
#define STRAY_H

/* Of each tree connect, and always the same. */
void smbdirect_stray_prepare(struct smbd_server_connection *sconn);

/*
 * Something has happened after which no connection may be left: looks, from the
 * event loop, behind all that is under way, and now and then for a minute.
 */
void smbdirect_stray_look(void);

#endif
