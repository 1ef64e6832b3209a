/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"

#include "protocol/proxy/vfs/front.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

static struct {
	struct messaging_context *msg_ctx;
	struct tevent_context *ev;
} process;

void smbdirect_front_prepare(struct smbd_server_connection *sconn)
{
	process.msg_ctx = sconn->msg_ctx;
	process.ev = sconn->ev_ctx;
}

bool smbdirect_front_stand(uint32_t msg_type, smbdirect_front_fn *fn)
{
	return process.msg_ctx != NULL &&
	       NT_STATUS_IS_OK(messaging_register(
		       process.msg_ctx, &process, msg_type, fn));
}

void smbdirect_front_let_on(uint32_t msg_type,
			    struct server_id src,
			    const DATA_BLOB *data,
			    struct tevent_immediate *back,
			    tevent_immediate_handler_t come_back)
{
	struct iovec iov = {
		.iov_base = data->data,
		.iov_len = data->length,
	};
	int ret;

	messaging_deregister(process.msg_ctx, msg_type, &process);
	ret = messaging_send_iov_from(process.msg_ctx,
				      src,
				      messaging_server_id(process.msg_ctx),
				      msg_type,
				      &iov,
				      1,
				      NULL,
				      0);
	if (ret != 0) {
		DBG_ERR("smbdirect: a message of type %u is lost: %s\n",
			(unsigned)msg_type,
			strerror(ret));
	}
	/* Behind the message: what was scheduled first is done first */
	tevent_schedule_immediate(back, process.ev, come_back, NULL);
}

struct tevent_context *smbdirect_front_events(void)
{
	return process.ev;
}
