/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The links of this smbd process to smbdirectd's workers, and the socket on
 * which it waits for them. Owns the descriptors of both. A worker that dies
 * closes its link, and with it go the link's areas; when smbd dies, the kernel
 * closes all links and the daemon's side sees their end.
 */
#ifndef LINK_H
#define LINK_H

#include "protocol/proxy/vfs/packet.h"

struct smbdirect_link;

/*
 * Waits for links, unless this process does already. Where it cannot, because
 * there is no daemon, the next tree connect tries again.
 */
void smbdirect_link_listen(struct tevent_context *ev);

/* No more links, and no name left behind. Those that are open stay. */
void smbdirect_link_stop_listening(void);

/*
 * Never blocks. A link whose reader has fallen behind by more than a socket
 * buffer is shut down: what it would miss may be an AREA_GONE.
 */
void smbdirect_link_send(struct smbdirect_link *link,
			 const struct smbdirect_packet *packet);

void smbdirect_link_send_all(const struct smbdirect_packet *packet);

#endif
