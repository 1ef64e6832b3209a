/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whatever takes a lease or an oplock away from its holder, be it in another
 * process or in this one, sends MSG_SMB_BREAK_REQUEST to the holder's process,
 * where process_oplock_break_message() tells the client. All other changes are
 * the client's answer to that, or the end of its open; with "kernel oplocks",
 * which have another message, nothing is granted.
 *
 * So ours withdraws everything and lets the message go on (front.h). Only after
 * that, from the event loop, it comes back and grants what still may be.
 * Another break may arrive in between and go past us; that is why it is
 * everything.
 */
#include "includes.h"
#include "smbd/smbd.h"

#include "protocol/proxy/vfs/break.h"
#include "protocol/proxy/vfs/front.h"
#include "protocol/proxy/vfs/grant.h"
#include "protocol/proxy/vfs/stray.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

static struct {
	struct tevent_immediate *back;
	bool watching;
	bool aside;
} process;

static smbdirect_front_fn break_message;

static void come_back(struct tevent_context *ev,
		      struct tevent_immediate *im,
		      void *private_data)
{
	smbdirect_stray_look();
	if (!smbdirect_front_stand(MSG_SMB_BREAK_REQUEST, break_message)) {
		/* The words stay cleared */
		DBG_ERR("smbdirect: no more direct I/O: out of memory\n");
		return;
	}
	process.aside = false;
	smbdirect_grant_restore_all();
}

static void break_message(struct messaging_context *msg_ctx,
			  void *private_data,
			  uint32_t msg_type,
			  struct server_id src,
			  DATA_BLOB *data)
{
	process.aside = true;
	smbdirect_grant_withdraw_all();
	smbdirect_front_let_on(msg_type, src, data, process.back, come_back);
}

bool smbdirect_break_watch(void)
{
	if (process.watching) {
		return true;
	}
	if (process.back == NULL) {
		process.back = tevent_create_immediate(NULL);
	}
	if (process.back == NULL ||
	    !smbdirect_front_stand(MSG_SMB_BREAK_REQUEST, break_message))
	{
		return false;
	}
	process.watching = true;
	return true;
}

bool smbdirect_break_aside(void)
{
	return process.aside;
}
