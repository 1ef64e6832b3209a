/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The hook of server-side copies, by which smbd hands us the READs and WRITEs
 * that the daemon has turned into FSCTL_SRV_COPYCHUNK_WRITE: of all file system
 * controls, stock smbd serves only these asynchronously.
 */
#ifndef OFFLOAD_H
#define OFFLOAD_H

struct tevent_req *smbdirect_offload_write_send(
	struct vfs_handle_struct *handle,
	TALLOC_CTX *mem_ctx,
	struct tevent_context *ev,
	uint32_t fsctl,
	DATA_BLOB *token,
	off_t transfer_offset,
	struct files_struct *dest_fsp,
	off_t dest_off,
	off_t to_copy);

NTSTATUS smbdirect_offload_write_recv(struct vfs_handle_struct *handle,
				      struct tevent_req *req,
				      off_t *copied);

#endif
