/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * smbd gives a file to others before it calls close_fn: it takes the open out
 * of locking.tdb, may set the file's times, which takes as long as the disk
 * does, and only then closes the file. So close_fn comes too late to wait. Of
 * these messages ours hears in time; what it cannot hear of is the client's own
 * CLOSE, TREE_DISCONNECT or LOGOFF, where the daemon waits, unless they come
 * past the daemon; the end of the last connection, which the daemon keeps open
 * as long as something is under way; ctdb's release of an address, of which
 * smbd hears otherwise; and signals.
 *
 * Which files it is about is smbd's to say: all are withdrawn. Those that are
 * left open come back with the next READ or WRITE that smbd does, or at once.
 */
#include "includes.h"
#include "smbd/smbd.h"

#include "protocol/proxy/vfs/ending.h"
#include "protocol/proxy/vfs/front.h"
#include "protocol/proxy/vfs/grant.h"
#include "protocol/proxy/vfs/use.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

#define FIRST_PAUSE_MS 1
#define LAST_PAUSE_MS 16
/* A WRITE that has not returned by then hangs */
#define HELD_MAX_MS 30000

static const uint32_t types[] = {
	MSG_SMBXSRV_SESSION_CLOSE, /* PreviousSessionId of a SESSION_SETUP */
	MSG_SMB_FORCE_TDIS,	   /* smbcontrol close-share */
	MSG_SMB_FORCE_TDIS_DENIED, /* smbcontrol close-denied-share */
	MSG_SMB_CLOSE_FILE,	   /* an administrator's client */
	MSG_SMB_KILL_CLIENT_IP,	   /* smbcontrol kill-client-ip, ctdb's */
	MSG_SHUTDOWN,		   /* smbcontrol shutdown, "deadtime" */
};

struct held {
	struct held *prev, *next;
	uint32_t msg_type;
	struct server_id src;
	DATA_BLOB data;
};

static struct {
	bool watching;
	bool aside;
	struct held *held; /* in the order in which they have come */
	struct timeval since;
	unsigned pause_ms;
	struct tevent_timer *timer;
	struct tevent_immediate *back;
} process;

static smbdirect_front_fn ending_message;

static bool stand(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		if (!smbdirect_front_stand(types[i], ending_message)) {
			return false;
		}
	}
	return true;
}

static void come_back(struct tevent_context *ev,
		      struct tevent_immediate *im,
		      void *private_data)
{
	if (!stand()) {
		/* The words stay cleared */
		DBG_ERR("smbdirect: no more direct I/O: out of memory\n");
		return;
	}
	if (process.held == NULL) {
		process.aside = false;
		smbdirect_grant_ask_all();
	}
}

static void let_on(uint32_t msg_type,
		   struct server_id src,
		   const DATA_BLOB *data)
{
	smbdirect_front_let_on(msg_type, src, data, process.back, come_back);
}

static bool look_later(void);

static void look(struct tevent_context *ev,
		 struct tevent_timer *te,
		 struct timeval now,
		 void *private_data)
{
	struct held *held = NULL;

	process.timer = NULL; /* freed behind us */
	if (smbdirect_use_any()) {
		if (timeval_elapsed(&process.since) * 1000 < HELD_MAX_MS &&
		    look_later())
		{
			return;
		}
		DBG_WARNING("smbdirect: files are closed while a WRITE does "
			    "not end\n");
	}
	while ((held = process.held) != NULL) {
		DLIST_REMOVE(process.held, held);
		let_on(held->msg_type, held->src, &held->data);
		TALLOC_FREE(held);
	}
}

/* False without memory. */
static bool look_later(void)
{
	process.timer = tevent_add_timer(smbdirect_front_events(),
					 NULL,
					 timeval_current_ofs_msec(
						 process.pause_ms),
					 look,
					 NULL);
	process.pause_ms = MIN(2 * process.pause_ms, LAST_PAUSE_MS);
	return process.timer != NULL;
}

/* False without memory. */
static bool hold(uint32_t msg_type, struct server_id src, const DATA_BLOB *data)
{
	struct held *held = talloc_zero(NULL, struct held);

	if (held == NULL) {
		return false;
	}
	held->msg_type = msg_type;
	held->src = src;
	held->data = data_blob_talloc(held, data->data, data->length);
	if (held->data.data == NULL && data->length != 0) {
		TALLOC_FREE(held);
		return false;
	}
	if (process.held == NULL) {
		process.since = timeval_current();
		process.pause_ms = FIRST_PAUSE_MS;
		if (!look_later()) {
			TALLOC_FREE(held);
			return false;
		}
	}
	DLIST_ADD_END(process.held, held);
	return true;
}

static void ending_message(struct messaging_context *msg_ctx,
			   void *private_data,
			   uint32_t msg_type,
			   struct server_id src,
			   DATA_BLOB *data)
{
	process.aside = true;
	smbdirect_grant_withdraw_all();
	if ((process.held != NULL || smbdirect_use_any()) &&
	    hold(msg_type, src, data))
	{
		return;
	}
	let_on(msg_type, src, data);
}

bool smbdirect_ending_watch(void)
{
	if (process.watching) {
		return true;
	}
	if (process.back == NULL) {
		process.back = tevent_create_immediate(NULL);
	}
	process.watching = process.back != NULL && stand();
	return process.watching;
}

bool smbdirect_ending_aside(void)
{
	return process.aside;
}
