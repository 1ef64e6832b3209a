/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The links. Who connects has to be root, as has to be what listen.c listens
 * in: the daemon's supervisor does it, and gives the connected socket to an
 * unprivileged worker.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "protocol/proxy/vfs/area.h"
#include "protocol/proxy/vfs/link.h"
#include "protocol/proxy/vfs/stray.h"
#include "protocol/proxy/vfs/tell.h"
#include "protocol/proxy/vfs/tree.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

/* A client has a few channels; no daemon needs this many. */
#define LINKS_MAX 128

struct smbdirect_link {
	struct smbdirect_link *prev, *next;
	int sock;
	int room;      /* of its buffer, in the kernel's reckoning */
	bool given_up; /* by us, and its end says nothing of the other side */
	struct tevent_fd *fde;
};

static struct {
	struct smbdirect_link *links;
	unsigned num_links;
} process;

void smbdirect_link_send(struct smbdirect_link *link,
			 const struct smbdirect_packet *packet)
{
	ssize_t sent = send(link->sock,
			    packet->bytes,
			    sizeof(packet->bytes),
			    MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent != (ssize_t)sizeof(packet->bytes)) {
		/* Our callers walk lists: it is closed from the event loop */
		DBG_NOTICE("smbdirect: a link is given up: %s\n",
			   sent == -1 ? strerror(errno) : "short packet");
		link->given_up = true;
		shutdown(link->sock, SHUT_RDWR);
	}
}

bool smbdirect_link_dead(const struct smbdirect_link *link)
{
	struct pollfd other = {
		.fd = link->sock,
	};

	return !link->given_up && poll(&other, 1, 0) == 1 &&
	       (other.revents & POLLHUP) != 0;
}

void smbdirect_link_send_all(const struct smbdirect_packet *packet)
{
	struct smbdirect_link *link = NULL;

	for (link = process.links; link != NULL; link = link->next) {
		smbdirect_link_send(link, packet);
	}
}

enum smbdirect_offer smbdirect_link_offer(struct smbdirect_link *link,
					  const struct smbdirect_packet *packet,
					  int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {
		.align =
			{
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
				.cmsg_len = CMSG_LEN(sizeof(int)),
			},
	};
	struct iovec iov = {
		.iov_base = discard_const_p(uint8_t, packet->bytes),
		.iov_len = sizeof(packet->bytes),
	};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	int queued = 0;

	/* It becomes writable when three quarters are free */
	if (ioctl(link->sock, SIOCOUTQ, &queued) != 0 ||
	    queued > link->room / 2)
	{
		TEVENT_FD_WRITEABLE(link->fde);
		return SMBDIRECT_OFFER_LATER;
	}
	if (fd != -1) {
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(int));
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
	}
	return sendmsg(link->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) ==
			       (ssize_t)iov.iov_len
		       ? SMBDIRECT_OFFER_SENT
		       : SMBDIRECT_OFFER_FAILED;
}

/* ended: the other side has closed all that it had of it. */
static void link_close(struct smbdirect_link *link, bool ended)
{
	smbdirect_tell_end(link, ended && !link->given_up);
	smbdirect_area_link_closed(link);
	DLIST_REMOVE(process.links, link);
	process.num_links--;
	TALLOC_FREE(link->fde);
	close(link->sock);
	TALLOC_FREE(link);
	/* It ends with a channel */
	smbdirect_stray_look();
}

/*
 * Receives one packet and the descriptors in it. Returns the packet's size,
 * which may be larger than what there is room for, or -1. *fd is the only
 * descriptor, -1 where there is none; more than one is as good as an error.
 */
static ssize_t link_receive(struct smbdirect_link *link,
			    struct smbdirect_packet *packet,
			    int *fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {
		.iov_base = packet->bytes,
		.iov_len = sizeof(packet->bytes),
	};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c = NULL;
	unsigned count = 0;
	ssize_t got;

	*fd = -1;
	got = recvmsg(link->sock,
		      &msg,
		      MSG_CMSG_CLOEXEC | MSG_DONTWAIT | MSG_TRUNC);
	if (got < 0) {
		return got;
	}
	/* An empty packet is no end: it may have brought a descriptor */
	for (c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
		size_t at;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		/* Padding has room for a second one */
		for (at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len;
		     at += sizeof(int))
		{
			int one;

			memcpy(&one, (const char *)c + at, sizeof(int));
			if (count++ == 0) {
				*fd = one;
			} else {
				close(one);
			}
		}
	}
	if (count > 1 || (msg.msg_flags & MSG_CTRUNC)) {
		if (*fd != -1) {
			close(*fd);
			*fd = -1;
		}
		errno = EPROTO;
		return -1;
	}
	return got;
}

/* Returns false for whatever ends the link. */
static bool link_packet(struct smbdirect_link *link,
			const struct smbdirect_packet *packet,
			int fd)
{
	const uint8_t *token = smbdirect_packet_token(packet);
	struct smbdirect_packet answer;
	NTSTATUS status;

	switch (smbdirect_packet_type(packet)) {
	case SMBDIRECT_LINK_AREA:
		if (fd == -1) {
			return false;
		}
		status = smbdirect_area_add(link, token, fd);
		smbdirect_packet_init(&answer, SMBDIRECT_LINK_AREA_ADDED);
		smbdirect_packet_set_token(&answer, token);
		smbdirect_packet_set_number(&answer, NT_STATUS_V(status));
		smbdirect_link_send(link, &answer);
		return true;
	case SMBDIRECT_LINK_AREA_DROP:
		return fd == -1 && smbdirect_area_drop(link, token);
	case SMBDIRECT_LINK_DIRECT:
		return fd == -1 && smbdirect_tell_begin(link);
	default:
		return false;
	}
}

static void link_event(struct tevent_context *ev,
		       struct tevent_fd *fde,
		       uint16_t flags,
		       void *private_data)
{
	struct smbdirect_link *link = talloc_get_type_abort(
		private_data, struct smbdirect_link);
	struct smbdirect_packet packet;
	ssize_t got;
	bool ended;
	bool ok = false;
	int fd;

	if (flags & TEVENT_FD_WRITE) {
		TEVENT_FD_NOT_WRITEABLE(link->fde);
		smbdirect_tell_continue(link);
	}
	if ((flags & TEVENT_FD_READ) == 0) {
		return;
	}
	got = link_receive(link, &packet, &fd);
	if (got == -1 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	/* Reset: it left something of ours unread */
	ended = got == 0 || (got == -1 && errno == ECONNRESET);
	if (got == (ssize_t)sizeof(packet.bytes)) {
		ok = link_packet(link, &packet, fd);
	}
	if (fd != -1) {
		close(fd);
	}
	if (!ok) {
		if (!ended) {
			DBG_WARNING("smbdirect: what came over a link is not "
				    "its protocol: closed\n");
		}
		link_close(link, ended);
	}
}

static bool peer_is_root(int sock)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
		return false;
	}
	if (cred.uid != 0) {
		DBG_WARNING("smbdirect: pid %d of uid %d connected: only root "
			    "may\n",
			    (int)cred.pid,
			    (int)cred.uid);
		return false;
	}
	return true;
}

static void link_say_hello(struct smbdirect_link *link)
{
	struct smbdirect_packet hello;

	smbdirect_packet_init(&hello, SMBDIRECT_LINK_HELLO);
	smbdirect_packet_set_number(&hello, SMBDIRECT_LINK_VERSION);
	smbdirect_packet_set_session(&hello, getpid());
	smbdirect_packet_set_text(&hello, samba_version_string());
	smbdirect_link_send(link, &hello);
}

void smbdirect_link_accepted(struct tevent_context *ev, int sock)
{
	struct smbdirect_link *link = NULL;
	socklen_t len = sizeof(link->room);

	if (process.num_links >= LINKS_MAX || !peer_is_root(sock)) {
		close(sock);
		return;
	}
	link = talloc_zero(NULL, struct smbdirect_link);
	if (link == NULL) {
		close(sock);
		return;
	}
	link->sock = sock;
	getsockopt(sock, SOL_SOCKET, SO_SNDBUF, &link->room, &len);
	link->fde = tevent_add_fd(
		ev, link, sock, TEVENT_FD_READ, link_event, link);
	if (link->fde == NULL) {
		TALLOC_FREE(link);
		close(sock);
		return;
	}
	DLIST_ADD(process.links, link);
	process.num_links++;
	link_say_hello(link);
	smbdirect_tree_announce_all(link);
}
