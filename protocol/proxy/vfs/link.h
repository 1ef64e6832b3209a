/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The links of this smbd process to smbdirectd's workers. Owns their
 * descriptors. A worker that dies closes its link, and with it go the link's
 * areas; when smbd dies, the kernel closes all links and the daemon's side sees
 * their end.
 */
#ifndef LINK_H
#define LINK_H

#include "protocol/proxy/vfs/packet.h"

struct smbdirect_link;

/* Takes over the socket that somebody has connected to ours. */
void smbdirect_link_accepted(struct tevent_context *ev, int sock);

/* The other side has closed all that it had of it; its end is at hand. */
bool smbdirect_link_dead(const struct smbdirect_link *link);

/*
 * Never blocks. A link whose reader has fallen behind by more than a socket
 * buffer is shut down: what it would miss may be an AREA_GONE.
 */
void smbdirect_link_send(struct smbdirect_link *link,
			 const struct smbdirect_packet *packet);

void smbdirect_link_send_all(const struct smbdirect_packet *packet);

enum smbdirect_offer {
	SMBDIRECT_OFFER_SENT,
	SMBDIRECT_OFFER_LATER, /* smbdirect_tell_continue() says when */
	SMBDIRECT_OFFER_FAILED
};

/*
 * Sends it, with a descriptor unless that is -1, as long as most of the room is
 * left: a link never ends for what is offered to it. fd stays the caller's.
 */
enum smbdirect_offer smbdirect_link_offer(struct smbdirect_link *link,
					  const struct smbdirect_packet *packet,
					  int fd);

#endif
