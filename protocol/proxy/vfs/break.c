/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whatever takes a lease or an oplock away from its holder, be it in another
 * process or in this one, sends MSG_SMB_BREAK_REQUEST to the holder's process,
 * where process_oplock_break_message() tells the client. All other changes are
 * the client's answer to that, or the end of its open; with "kernel oplocks",
 * which have another message, nothing is granted.
 *
 * Messages go to the first handler of their type alone, and the last to
 * register is the first. So ours withdraws everything, takes itself away, and
 * sends the message once more, from whom it was, to this process: smbd's
 * handler gets it. Only after that, from the event loop, it comes back and
 * grants what still may be. Another break may arrive in between and go past us;
 * that is why it is everything.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"
#include "messages.h"

#include "protocol/proxy/vfs/break.h"
#include "protocol/proxy/vfs/grant.h"
#include "protocol/proxy/vfs/stray.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

static struct {
	struct messaging_context *msg_ctx;
	struct tevent_context *ev;
	struct tevent_immediate *back;
	bool watching;
	bool aside;
} process;

static void break_message(struct messaging_context *msg_ctx,
			  void *private_data,
			  uint32_t msg_type,
			  struct server_id src,
			  DATA_BLOB *data);

static bool stand_in_front(void)
{
	NTSTATUS status;

	status = messaging_register(process.msg_ctx,
				    &process,
				    MSG_SMB_BREAK_REQUEST,
				    break_message);
	return NT_STATUS_IS_OK(status);
}

static void come_back(struct tevent_context *ev,
		      struct tevent_immediate *im,
		      void *private_data)
{
	smbdirect_stray_look();
	if (!stand_in_front()) {
		/* The words stay cleared */
		DBG_ERR("smbdirect: no more direct I/O: out of memory\n");
		return;
	}
	process.aside = false;
	smbdirect_grant_ask_all();
}

static void break_message(struct messaging_context *msg_ctx,
			  void *private_data,
			  uint32_t msg_type,
			  struct server_id src,
			  DATA_BLOB *data)
{
	struct iovec iov = {
		.iov_base = data->data,
		.iov_len = data->length,
	};
	int ret;

	process.aside = true;
	smbdirect_grant_withdraw_all();
	messaging_deregister(msg_ctx, msg_type, private_data);
	ret = messaging_send_iov_from(msg_ctx,
				      src,
				      messaging_server_id(msg_ctx),
				      msg_type,
				      &iov,
				      1,
				      NULL,
				      0);
	if (ret != 0) {
		DBG_ERR("smbdirect: a request to break a lease is lost: %s\n",
			strerror(ret));
	}
	/* Behind the message: what was scheduled first is done first */
	tevent_schedule_immediate(process.back, process.ev, come_back, NULL);
}

void smbdirect_break_prepare(struct smbd_server_connection *sconn)
{
	process.msg_ctx = sconn->msg_ctx;
	process.ev = sconn->ev_ctx;
}

bool smbdirect_break_watch(void)
{
	if (process.watching) {
		return true;
	}
	if (process.msg_ctx == NULL) {
		return false;
	}
	if (process.back == NULL) {
		process.back = tevent_create_immediate(NULL);
	}
	if (process.back == NULL || !stand_in_front()) {
		return false;
	}
	process.watching = true;
	return true;
}

bool smbdirect_break_aside(void)
{
	return process.aside;
}
