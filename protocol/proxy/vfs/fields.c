/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Prints where the fields are that the module uses of smbd's structures. Within
 * a series they must not move, or one build does not serve all its releases:
 * fields.txt has what they were in those that somebody has looked at.
 *
 * A program of the build's own, which no smbd loads. What a macro of Samba's
 * touches counts too.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include "smbd/globals.h"

#define FIELD(type, field) {#type "." #field, offsetof(struct type, field)}
/* In what its global points to, whose name is not the same in all series. */
#define GLOBAL_FIELD(type, field)  \
	{#type ".global->" #field, \
	 offsetof(__typeof__(*((struct type *)NULL)->global), field)}

static const struct {
	const char *name;
	size_t offset;
} fields[] = {
	FIELD(files_struct, fh),
	FIELD(files_struct, conn),
	FIELD(files_struct, fsp_flags),
	FIELD(files_struct, access_mask),
	FIELD(files_struct, op),
	FIELD(files_struct, oplock_type),
	FIELD(files_struct, lease),
	FIELD(files_struct, sent_oplock_break),
	FIELD(fsp_lease, lease),
	FIELD(smb2_lease, lease_state),
	FIELD(smb2_lease, lease_flags),
	FIELD(connection_struct, sconn),
	FIELD(connection_struct, tcon),
	FIELD(connection_struct, cnum),
	FIELD(connection_struct, vuid),
	FIELD(connection_struct, vfs_handles),
	FIELD(connection_struct, params),
	FIELD(share_params, service),
	FIELD(connection_struct, printer),
	FIELD(connection_struct, ipc),
	FIELD(smbd_server_connection, ev_ctx),
	FIELD(smbd_server_connection, msg_ctx),
	FIELD(smbd_server_connection, client),
	FIELD(smbXsrv_client, connections),
	FIELD(smbXsrv_connection, next),
	FIELD(smb_request, smb2req),
	FIELD(smbd_smb2_request, session),
	FIELD(smbd_smb2_request, tcon),
	FIELD(smbXsrv_session, global),
	FIELD(smbXsrv_tcon, global),
	FIELD(vfs_handle_struct, next),
	FIELD(vfs_handle_struct, fns),
	FIELD(vfs_handle_struct, conn),
	FIELD(vfs_handle_struct, data),
	FIELD(smbXsrv_open, global),
	GLOBAL_FIELD(smbXsrv_open, open_persistent_id),
	GLOBAL_FIELD(smbXsrv_open, open_volatile_id),
	GLOBAL_FIELD(smbXsrv_open, channel_sequence),
	GLOBAL_FIELD(smbXsrv_session, signing_flags),
	GLOBAL_FIELD(smbXsrv_session, encryption_flags),
	GLOBAL_FIELD(smbXsrv_tcon, encryption_flags),
	FIELD(vfs_aio_state, error),
	FIELD(vfs_fn_pointers, connect_fn),
	FIELD(vfs_fn_pointers, disconnect_fn),
	FIELD(vfs_fn_pointers, create_file_fn),
	FIELD(vfs_fn_pointers, close_fn),
	FIELD(vfs_fn_pointers, durable_disconnect_fn),
	FIELD(vfs_fn_pointers, durable_reconnect_fn),
	FIELD(vfs_fn_pointers, pread_fn),
	FIELD(vfs_fn_pointers, pread_send_fn),
	FIELD(vfs_fn_pointers, pwrite_fn),
	FIELD(vfs_fn_pointers, pwrite_send_fn),
	FIELD(vfs_fn_pointers, fntimes_fn),
	FIELD(vfs_fn_pointers, strict_lock_check_fn),
	FIELD(vfs_fn_pointers, offload_write_send_fn),
	FIELD(vfs_fn_pointers, offload_write_recv_fn),
};

/* The first bit of the file's flags that is set, counted from their start. */
static size_t first_bit(const struct files_struct *fsp)
{
	const uint8_t *bytes = (const uint8_t *)&fsp->fsp_flags;
	size_t i;

	for (i = 0; i < 8 * sizeof(fsp->fsp_flags); i++) {
		if (bytes[i / 8] & (1 << (i % 8))) {
			break;
		}
	}
	return i;
}

#define FLAG(flag) \
	{#flag, first_bit(&(struct files_struct){.fsp_flags.flag = true})}

int main(void)
{
	const struct {
		const char *name;
		size_t bit;
	} flags[] = {
		FLAG(is_pathref),
		FLAG(can_read),
		FLAG(can_write),
		FLAG(is_directory),
		FLAG(write_time_forced),
#if SMB_VFS_INTERFACE_VERSION < 53
		FLAG(modified),
		FLAG(update_write_time_on_close),
#endif
#if SMB_VFS_INTERFACE_VERSION >= 50
		FLAG(posix_open),
		FLAG(posix_append),
#endif
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		printf("%s %zu\n", fields[i].name, fields[i].offset);
	}
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		printf("fsp_flags.%s %zu\n", flags[i].name, flags[i].bit);
	}
	printf("lock_struct %zu\n", sizeof(struct lock_struct));
#if SMB_VFS_INTERFACE_VERSION >= 53
	printf("file_modified_state %zu\n", sizeof(struct file_modified_state));
#endif
	printf("interface %d\n", SMB_VFS_INTERFACE_VERSION);
	return 0;
}
