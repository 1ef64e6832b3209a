/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The directory is root's alone, and the socket is root's alone in it: both are
 * checked or made here, since whoever has a link can make smbd write a client's
 * data into memory of theirs.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include <sys/socket.h>
#include <sys/un.h>

#include "protocol/proxy/smbdirect_area.h"
#include "protocol/proxy/vfs/link.h"
#include "protocol/proxy/vfs/listen.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

static struct {
	int sock;
	struct tevent_fd *fde;
	struct sockaddr_un address;
} listener = {
	.sock = -1,
};

/* The directory has to be one in which nobody but root makes names. */
static bool directory_is_roots(const char *directory)
{
	struct stat st;

	if (lstat(directory, &st) != 0) {
		DBG_INFO("smbdirect: no links: %s: %s\n",
			 directory,
			 strerror(errno));
		return false;
	}
	if (!S_ISDIR(st.st_mode) || st.st_uid != 0 ||
	    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
	{
		DBG_ERR("smbdirect: no links: %s has to be a directory that "
			"only root may write to\n",
			directory);
		return false;
	}
	return true;
}

static int bind_as_root(const char *directory, struct sockaddr_un *address)
{
	int sock = -1;

	if (!directory_is_roots(directory)) {
		return -1;
	}
	sock = socket(AF_UNIX,
		      SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		      0);
	if (sock == -1) {
		return -1;
	}
	/* Of an earlier process that had our pid, and was killed */
	unlink(address->sun_path);
	if (bind(sock, (struct sockaddr *)address, sizeof(*address)) != 0 ||
	    chmod(address->sun_path, S_IRUSR | S_IWUSR) != 0 ||
	    listen(sock, 8) != 0)
	{
		DBG_ERR("smbdirect: no links at %s: %s\n",
			address->sun_path,
			strerror(errno));
		close(sock);
		return -1;
	}
	return sock;
}

static void listen_event(struct tevent_context *ev,
			 struct tevent_fd *fde,
			 uint16_t flags,
			 void *private_data)
{
	int sock = accept4(listener.sock,
			   NULL,
			   NULL,
			   SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock != -1) {
		smbdirect_link_accepted(ev, sock);
	}
}

void smbdirect_listen(struct tevent_context *ev)
{
	const char *directory = lp_parm_const_string(GLOBAL_SECTION_SNUM,
						     "smbdirect",
						     "directory",
						     SMBDIRECT_LINK_DIRECTORY);
	struct sockaddr_un address = {
		.sun_family = AF_UNIX,
	};
	int len;

	if (listener.sock != -1) {
		return;
	}
	len = snprintf(address.sun_path,
		       sizeof(address.sun_path),
		       "%s/%d",
		       directory,
		       (int)getpid());
	if (len < 0 || (size_t)len >= sizeof(address.sun_path)) {
		DBG_ERR("smbdirect: no links: the path %s is too long for a "
			"socket\n",
			directory);
		return;
	}
	become_root();
	listener.sock = bind_as_root(directory, &address);
	unbecome_root();
	if (listener.sock == -1) {
		return;
	}
	listener.address = address;
	listener.fde = tevent_add_fd(
		ev, NULL, listener.sock, TEVENT_FD_READ, listen_event, NULL);
	if (listener.fde == NULL) {
		smbdirect_listen_stop();
	}
}

void smbdirect_listen_stop(void)
{
	if (listener.sock == -1) {
		return;
	}
	TALLOC_FREE(listener.fde);
	close(listener.sock);
	listener.sock = -1;
	become_root();
	unlink(listener.address.sun_path);
	unbecome_root();
}
