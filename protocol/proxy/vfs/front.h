/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Stands in front of smbd's own handlers of messages from other processes.
 * Messages go to the first handler of their type alone, or to whoever reads
 * that type where there is none, and the last to register is the first. So ours
 * takes itself away when it lets one go on, and sends it once more, from whom
 * it was, to this process. Of this process, from its event loop.
 */
#ifndef FRONT_H
#define FRONT_H

#include "messages.h"

typedef void smbdirect_front_fn(struct messaging_context *msg_ctx,
				void *private_data,
				uint32_t msg_type,
				struct server_id src,
				DATA_BLOB *data);

/* Where the messages arrive; of each tree connect, and always the same. */
void smbdirect_front_prepare(struct smbd_server_connection *sconn);

/* From here on. False without memory, or where no tree was connected. */
bool smbdirect_front_stand(uint32_t msg_type, smbdirect_front_fn *fn);

/*
 * To smbd, which gets it from the event loop; `back` calls come_back after
 * that. Until then nobody stands in front of that type.
 */
void smbdirect_front_let_on(uint32_t msg_type,
			    struct server_id src,
			    const DATA_BLOB *data,
			    struct tevent_immediate *back,
			    tevent_immediate_handler_t come_back);

/* NULL where no tree was connected. */
struct tevent_context *smbdirect_front_events(void);

#endif
