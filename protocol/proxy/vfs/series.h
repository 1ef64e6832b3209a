/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What differs between the series of Samba, and nothing else: by the number of
 * the VFS interface, which upstream raises between series and never within one.
 *
 * 47: 4.17    48: 4.18    49: 4.19, 4.20, 4.21    50: 4.22    53: 4.25
 */
#ifndef SERIES_H
#define SERIES_H

#if SMB_VFS_INTERFACE_VERSION != 47 && SMB_VFS_INTERFACE_VERSION != 50 && \
	SMB_VFS_INTERFACE_VERSION != 53
#error "Nobody has read this series of Samba: see series.h"
#endif

#include "libcli/security/security.h"
#include "libcli/smb/smb_constants.h"
#include "locking/share_mode_lock.h"

/* The check that smbd_smb2_write_send() makes before anything else. */
static inline NTSTATUS smbdirect_may_write(struct files_struct *fsp,
					   off_t offset)
{
#if SMB_VFS_INTERFACE_VERSION < 50
	return CHECK_WRITE(fsp) ? NT_STATUS_OK : NT_STATUS_ACCESS_DENIED;
#else
	bool append = offset == VFS_PWRITE_APPEND_OFFSET;
	NTSTATUS status;

	status = check_any_access_fsp(fsp, FILE_WRITE_DATA | FILE_APPEND_DATA);
	if (NT_STATUS_IS_OK(status) && append != fsp->fsp_flags.posix_append) {
		status = NT_STATUS_INVALID_PARAMETER;
	}
	return status;
#endif
}

static inline void smbdirect_lock_range(struct files_struct *fsp,
					off_t offset,
					uint32_t length,
					enum brl_type type,
					struct lock_struct *lock)
{
	init_strict_lock_struct(fsp,
				fsp->op->global->open_persistent_id,
				offset,
				length,
				type,
#if SMB_VFS_INTERFACE_VERSION < 53
				lp_posix_cifsu_locktype(fsp),
#endif
				lock);
}

/* From 4.18 on in a header that none of the others includes. */
NTSTATUS smb2srv_session_lookup_client(struct smbXsrv_client *client,
				       uint64_t session_id,
				       NTTIME now,
				       struct smbXsrv_session **session);

/* durable_reconnect_fn got one more argument. */
#if SMB_VFS_INTERFACE_VERSION < 53
#define SMBDIRECT_RECONNECT_LEASE(lease)
#define SMBDIRECT_NEXT_DURABLE_RECONNECT(                             \
	handle, req, op, old_cookie, lease, mem_ctx, fsp, new_cookie) \
	SMB_VFS_NEXT_DURABLE_RECONNECT(                               \
		handle, req, op, old_cookie, mem_ctx, fsp, new_cookie)
#else
#define SMBDIRECT_RECONNECT_LEASE(lease) const struct smb2_lease *lease,
#define SMBDIRECT_NEXT_DURABLE_RECONNECT SMB_VFS_NEXT_DURABLE_RECONNECT
#endif

#if SMB_VFS_INTERFACE_VERSION < 53
struct smbdirect_modified {
	bool unused;
};
#else
struct smbdirect_modified {
	struct file_modified_state state;
};
#endif

/* Around a write that goes past smbd's write_file(). */
static inline void smbdirect_write_begins(struct files_struct *fsp,
					  struct smbdirect_modified *modified)
{
#if SMB_VFS_INTERFACE_VERSION >= 53
	prepare_file_modified(fsp, &modified->state);
#endif
}

static inline void smbdirect_write_ended(struct files_struct *fsp,
					 struct smbdirect_modified *modified)
{
#if SMB_VFS_INTERFACE_VERSION < 53
	mark_file_modified(fsp);
#else
	mark_file_modified(fsp, true, &modified->state);
#endif
}

/*
 * Whether smbd does nothing more about the write time for the next WRITE of the
 * open than it has to do already: it will set the time when the open is closed,
 * and tell who watches; or the client has set a time, which is put back then,
 * or after each WRITE. What has never been written is not asked about: its
 * first WRITE is smbd's anyway.
 */
static inline bool smbdirect_write_time_is_seen_to(
	const struct files_struct *fsp)
{
#if SMB_VFS_INTERFACE_VERSION < 53
#if SMB_VFS_INTERFACE_VERSION >= 50
	if (fsp->fsp_flags.posix_open) {
		return true;
	}
#endif
	return !fsp->fsp_flags.modified ||
	       fsp->fsp_flags.update_write_time_on_close ||
	       fsp->fsp_flags.write_time_forced;
#else
	return !fsp->fsp_flags.write_time_forced;
#endif
}

/* A WRITE that was not smbd's ends now, or later. */
static inline void smbdirect_write_time_moves_on(struct files_struct *fsp)
{
#if SMB_VFS_INTERFACE_VERSION < 53
	trigger_write_time_update(fsp);
#endif
}

#endif
