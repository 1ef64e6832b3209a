/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vfs_smbdirect: the payload of READs and WRITEs of SMB Direct clients goes
 * between files and memory shared with smbdirectd, and not over the TCP
 * connection from it. See vfs_smbdirect(8).
 *
 * Built once for each series of Samba, against its headers; loaded by shim.c.
 * Runs in the smbd process of one client, in its event loop; threads touch
 * nothing of ours but the memory of an area. When the process dies, all of it
 * is gone, and the daemon sees its links end.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"

#include "protocol/proxy/vfs/link.h"
#include "protocol/proxy/vfs/offload.h"
#include "protocol/proxy/vfs/tree.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

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
	if (IS_IPC(conn) || IS_PRINT(conn) || conn->tcon == NULL) {
		return 0;
	}
	handle->data = smbdirect_tree_add(handle, service);
	if (handle->data != NULL) {
		smbdirect_link_listen(conn->sconn->ev_ctx);
	}
	return 0;
}

static void smbdirect_disconnect(struct vfs_handle_struct *handle)
{
	TALLOC_FREE(handle->data);
	if (!smbdirect_tree_any()) {
		smbdirect_link_stop_listening();
	}
	SMB_VFS_NEXT_DISCONNECT(handle);
}

static const struct vfs_fn_pointers smbdirect_functions = {
	.connect_fn = smbdirect_connect,
	.disconnect_fn = smbdirect_disconnect,
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
