/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which opens a worker may read and write itself, because smbd would do nothing
 * about these READs and WRITEs but the system call: by the share, by the open,
 * and by its lease at this moment. Pure: looks at smbd's structures, and
 * changes none.
 */
#ifndef DIRECT_H
#define DIRECT_H

#include "protocol/proxy/smbdirect_area.h"

/*
 * What the share lets be done directly, enum smbdirect_rights. None: *why says
 * why, it is mem_ctx's, or constant.
 */
uint32_t smbdirect_direct_share(TALLOC_CTX *mem_ctx,
				struct vfs_handle_struct *handle,
				const char **why);

/*
 * What smb.conf lets be done there now. It may have been read again, and what
 * it has refused once stays refused to a tree.
 */
uint32_t smbdirect_direct_parameters(const struct connection_struct *conn);

/*
 * What that open, which req has just made, may ever be granted; its file has
 * not been looked at.
 */
uint32_t smbdirect_direct_open(const struct smb_request *req,
			       const struct files_struct *fsp);

/* What its descriptor lets be done, if it is of a regular file of the system's.
 */
uint32_t smbdirect_direct_descriptor(const struct files_struct *fsp);

/* What of these rights its file lets be done as it is now. */
uint32_t smbdirect_direct_file(const struct files_struct *fsp, uint32_t rights);

/*
 * What smbd would do now without asking about locks or breaking leases. Nothing
 * from the moment on at which the client was told that its lease is broken.
 */
uint32_t smbdirect_direct_lease(struct files_struct *fsp);

/*
 * smbd has begun to end the tree or its session, and waits for requests under
 * way before it closes files: it begins no others, and so must nobody.
 */
bool smbdirect_direct_being_closed(const struct connection_struct *conn);

#endif
