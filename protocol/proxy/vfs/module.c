/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vfs_smbdirect: the payload of READs and WRITEs of SMB Direct clients goes
 * between files and memory shared with smbdirectd, and not over the TCP
 * connection from it; or smbdirectd reads and writes the files itself, where
 * smbd would do no more than that. See vfs_smbdirect(8).
 *
 * Built once for each series of Samba, against its headers; loaded by shim.c.
 * Runs in the smbd process of one client, in its event loop; threads touch
 * nothing of ours but the memory of an area. When the process dies, all of it
 * is gone, and the daemon sees its links end.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"

#include "protocol/proxy/vfs/direct.h"
#include "protocol/proxy/vfs/front.h"
#include "protocol/proxy/vfs/grant.h"
#include "protocol/proxy/vfs/listen.h"
#include "protocol/proxy/vfs/offload.h"
#include "protocol/proxy/vfs/series.h"
#include "protocol/proxy/vfs/stray.h"
#include "protocol/proxy/vfs/tree.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

static int smbdirect_connect(struct vfs_handle_struct *handle,
			     const char *service,
			     const char *user);

/* "vfs objects" may name us twice: the first one does all of it. */
static bool is_first(const struct vfs_handle_struct *handle)
{
	const struct vfs_handle_struct *h = handle->conn->vfs_handles;

	while (h != NULL && h->fns->connect_fn != smbdirect_connect) {
		h = h->next;
	}
	return h == handle;
}

/* A tree connect never fails because of us. */
static int smbdirect_connect(struct vfs_handle_struct *handle,
			     const char *service,
			     const char *user)
{
	struct connection_struct *conn = handle->conn;
	int ret = SMB_VFS_NEXT_CONNECT(handle, service, user);

	if (ret != 0) {
		return ret;
	}
	/* conn->tcon: smbd itself connects to shares too, for no client */
	if (IS_IPC(conn) || IS_PRINT(conn) || conn->tcon == NULL ||
	    !is_first(handle))
	{
		return 0;
	}
	handle->data = smbdirect_tree_add(handle, service);
	if (handle->data != NULL) {
		smbdirect_front_prepare(conn->sconn);
		smbdirect_stray_prepare(conn->sconn);
		smbdirect_listen(conn->sconn->ev_ctx);
	}
	return 0;
}

static void smbdirect_disconnect(struct vfs_handle_struct *handle)
{
	TALLOC_FREE(handle->data);
	if (!smbdirect_tree_any()) {
		smbdirect_listen_stop();
	}
	SMB_VFS_NEXT_DISCONNECT(handle);
}

/* What came of a CREATE, or of one that takes up a durable open again. */
static void opened(struct vfs_handle_struct *handle,
		   const struct smb_request *req,
		   struct files_struct *fsp)
{
	const struct smbdirect_tree *tree = handle->data;

	if (tree == NULL || tree->direct == 0 || fsp == NULL) {
		return;
	}
	smbdirect_grant_opened(handle,
			       fsp,
			       tree->direct & smbdirect_direct_open(req, fsp));
}

/*
 * A client that comes again begins its ChannelSequence at 0, and smbd still has
 * the newest one of the open: it serves READs with an older one, and no IOCTLs.
 */
static void sequence_taken_up(struct vfs_handle_struct *handle,
			      const struct smbXsrv_open *op)
{
	struct smbdirect_tree *tree = handle->data;

	if (tree != NULL && op->global->channel_sequence != 0) {
		smbdirect_tree_leave(tree,
				     "a durable open was taken up whose "
				     "ChannelSequence is not 0");
	}
}

static NTSTATUS smbdirect_create_file(struct vfs_handle_struct *handle,
				      struct smb_request *req,
				      struct files_struct *dirfsp,
				      struct smb_filename *smb_fname,
				      uint32_t access_mask,
				      uint32_t share_access,
				      uint32_t create_disposition,
				      uint32_t create_options,
				      uint32_t file_attributes,
				      uint32_t oplock_request,
				      const struct smb2_lease *lease,
				      uint64_t allocation_size,
				      uint32_t private_flags,
				      struct security_descriptor *sd,
				      struct ea_list *ea_list,
				      struct files_struct **result,
				      int *pinfo,
				      const struct smb2_create_blobs *in_blobs,
				      struct smb2_create_blobs *out_blobs)
{
	NTSTATUS status;

	status = SMB_VFS_NEXT_CREATE_FILE(handle,
					  req,
					  dirfsp,
					  smb_fname,
					  access_mask,
					  share_access,
					  create_disposition,
					  create_options,
					  file_attributes,
					  oplock_request,
					  lease,
					  allocation_size,
					  private_flags,
					  sd,
					  ea_list,
					  result,
					  pinfo,
					  in_blobs,
					  out_blobs);
	if (NT_STATUS_IS_OK(status)) {
		opened(handle, req, *result);
	}
	return status;
}

static int smbdirect_close(struct vfs_handle_struct *handle,
			   struct files_struct *fsp)
{
	smbdirect_grant_closing(handle, fsp);
	return SMB_VFS_NEXT_CLOSE(handle, fsp);
}

static NTSTATUS smbdirect_durable_disconnect(struct vfs_handle_struct *handle,
					     struct files_struct *fsp,
					     const DATA_BLOB old_cookie,
					     TALLOC_CTX *mem_ctx,
					     DATA_BLOB *new_cookie)
{
	smbdirect_grant_closing(handle, fsp);
	return SMB_VFS_NEXT_DURABLE_DISCONNECT(
		handle, fsp, old_cookie, mem_ctx, new_cookie);
}

static NTSTATUS smbdirect_durable_reconnect(struct vfs_handle_struct *handle,
					    struct smb_request *req,
					    struct smbXsrv_open *op,
					    const DATA_BLOB old_cookie,
					    SMBDIRECT_RECONNECT_LEASE(lease)
						    TALLOC_CTX *mem_ctx,
					    struct files_struct **fsp,
					    DATA_BLOB *new_cookie)
{
	NTSTATUS status;

	status = SMBDIRECT_NEXT_DURABLE_RECONNECT(
		handle, req, op, old_cookie, lease, mem_ctx, fsp, new_cookie);
	if (NT_STATUS_IS_OK(status)) {
		sequence_taken_up(handle, op);
		opened(handle, req, *fsp);
	}
	return status;
}

/* Comes before each READ and WRITE of smbd's own, and before ours (io.c). */
static bool smbdirect_strict_lock_check(struct vfs_handle_struct *handle,
					struct files_struct *fsp,
					struct lock_struct *lock)
{
	smbdirect_grant_ask(handle, fsp);
	return SMB_VFS_NEXT_STRICT_LOCK_CHECK(handle, fsp, lock);
}

static int smbdirect_fntimes(struct vfs_handle_struct *handle,
			     struct files_struct *fsp,
			     struct smb_file_time *ft)
{
	smbdirect_grant_times(handle, fsp);
	return SMB_VFS_NEXT_FNTIMES(handle, fsp, ft);
}

static const struct vfs_fn_pointers smbdirect_functions = {
	.connect_fn = smbdirect_connect,
	.disconnect_fn = smbdirect_disconnect,
	.create_file_fn = smbdirect_create_file,
	.close_fn = smbdirect_close,
	.fntimes_fn = smbdirect_fntimes,
	.strict_lock_check_fn = smbdirect_strict_lock_check,
	.durable_disconnect_fn = smbdirect_durable_disconnect,
	.durable_reconnect_fn = smbdirect_durable_reconnect,
	.offload_write_send_fn = smbdirect_offload_write_send,
	.offload_write_recv_fn = smbdirect_offload_write_recv,
};

/*
 * Our undefined symbols have no versions, so that one build serves all releases
 * of a series, and the number of the interface is the same in some series whose
 * structures differ. So nothing but this keeps us out of a foreign smbd.
 */
static bool series_is_ours(void)
{
	static const char series[] = SMBDIRECT_SERIES ".";

	return strncmp(samba_version_string(), series, strlen(series)) == 0;
}

__attribute__((visibility("default"))) NTSTATUS
samba_init_module(TALLOC_CTX *ctx);

NTSTATUS samba_init_module(TALLOC_CTX *ctx)
{
	if (!series_is_ours()) {
		DBG_ERR("smbdirect: this build is for Samba " SMBDIRECT_SERIES
			", and not for %s\n",
			samba_version_string());
		return NT_STATUS_REVISION_MISMATCH;
	}
	return smb_register_vfs(SMB_VFS_INTERFACE_VERSION,
				"smbdirect",
				&smbdirect_functions);
}
