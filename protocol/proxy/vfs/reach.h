/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the other modules of a share's "vfs objects" do to ours. Pure: looks at
 * the chain of handles, which does not change once the tree is connected.
 */
#ifndef REACH_H
#define REACH_H

/*
 * NULL when an offload_write reaches us from smbd; else why it does not. The
 * text is mem_ctx's, or constant.
 */
const char *smbdirect_reach_refusal(TALLOC_CTX *mem_ctx,
				    struct vfs_handle_struct *handle);

/*
 * True when nobody but the default module, which is the last, does anything
 * about file I/O: then pread() on the file is what smbd would end up with.
 */
bool smbdirect_reach_plain_io(struct vfs_handle_struct *handle);

/*
 * NULL when no other module would do or see anything about the file I/O of an
 * open that is no stream; else which does. The text is mem_ctx's, or constant.
 */
const char *smbdirect_reach_direct_refusal(TALLOC_CTX *mem_ctx,
					   struct vfs_handle_struct *handle);

#endif
