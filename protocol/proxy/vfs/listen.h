/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The socket DIRECTORY/PID, at which this smbd process waits for links. Owns it
 * and its name; of a process that was killed the name stays, and the next one
 * with that pid takes it away.
 */
#ifndef LISTEN_H
#define LISTEN_H

/*
 * Waits for links, unless this process does already. Where it cannot, because
 * there is no daemon, the next tree connect tries again.
 */
void smbdirect_listen(struct tevent_context *ev);

/* No more links, and no name left behind. Those that are open stay. */
void smbdirect_listen_stop(void);

#endif
