/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * smbd ends when it reads that its last connection is gone. Before Samba 4.25
 * (bug 15995) it does not when it learns so by sending a break: it closes the
 * connection, finds none to send the break on, and forgets the break. Nothing
 * is left that it could read the end from. It takes a connection that is reset
 * just before smbd handles the message that asks for the break, or several
 * channels that are lost while TCP has not acknowledged a break on one of them.
 *
 * What is done here is what smbd does when it reads the end: it waits for what
 * is under way where it does that, closes the files, and exits.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"

#include "protocol/proxy/vfs/stray.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

#define FIRST_PAUSE_MS 100
#define LAST_PAUSE_MS 30000

static struct {
	struct smbd_server_connection *sconn;
	struct tevent_timer *timer;
	unsigned pause_ms; /* after the look that comes next */
} process;

static void end_connections(struct smbXsrv_client *client)
{
	struct smbXsrv_connection *xconn = NULL;

	/* Does nothing about one that is ending already; may exit */
	for (xconn = client->connections; xconn != NULL; xconn = xconn->next) {
		smbd_server_connection_terminate(
			xconn, "the client was gone when a lease was broken");
	}
}

static void look_after(unsigned ms);

static void look(struct tevent_context *ev,
		 struct tevent_timer *te,
		 struct timeval now,
		 void *private_data)
{
	process.timer = NULL; /* freed behind us */
	if (smbXsrv_client_valid_connections(process.sconn->client) == 0) {
		end_connections(process.sconn->client);
		return;
	}
	if (process.pause_ms <= LAST_PAUSE_MS) {
		look_after(process.pause_ms);
		process.pause_ms *= 2;
	}
}

static void look_after(unsigned ms)
{
	TALLOC_FREE(process.timer);
	/* Without memory we do not look */
	process.timer = tevent_add_timer(process.sconn->ev_ctx,
					 NULL,
					 timeval_current_ofs_msec(ms),
					 look,
					 NULL);
}

void smbdirect_stray_prepare(struct smbd_server_connection *sconn)
{
	process.sconn = sconn;
}

void smbdirect_stray_look(void)
{
	if (process.sconn == NULL) {
		return;
	}
	process.pause_ms = FIRST_PAUSE_MS;
	look_after(0);
}
