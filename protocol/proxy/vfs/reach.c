/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A module above ours that has an offload_write_send of its own sees our key
 * first. vfs_btrfs looks it up among those it gave out itself, and so nothing
 * would come to us (in Samba 4.17 it even ends smbd, where no key was given out
 * before). Only those that are known to pass it on are let stand above.
 */
#include "includes.h"
#include "smbd/smbd.h"
#include <dlfcn.h>

#include "protocol/proxy/vfs/reach.h"

/* Read in the sources of 4.17 to 4.25. */
static const char *const passing[] = {
	"fruit.so",
	"full_audit.so",
	"time_audit.so",
};

/* The file name of the module whose code that is; NULL when nobody knows. */
static const char *module_of(const void *code)
{
	const char *slash = NULL;
	Dl_info where;

	if (dladdr(code, &where) == 0 || where.dli_fname == NULL) {
		return NULL;
	}
	slash = strrchr(where.dli_fname, '/');
	return slash == NULL ? where.dli_fname : slash + 1;
}

/*
 * These read and write as the default module does, but for streams, and but for
 * the error of a write to what was opened for reading.
 */
static const char *const plain[] = {
	"catia.so",
	"fruit.so",
	"io_uring.so",
	"shadow_copy2.so",
	"streams_xattr.so",
};

static bool is_among(const char *module, const char *const *names, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (strcmp(module, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

const char *smbdirect_reach_refusal(TALLOC_CTX *mem_ctx,
				    struct vfs_handle_struct *handle)
{
	struct vfs_handle_struct *above = NULL;
	const char *module = NULL;
	const char *text = NULL;

	for (above = handle->conn->vfs_handles;
	     above != NULL && above != handle;
	     above = above->next)
	{
		if (above->fns->offload_write_send_fn == NULL) {
			continue;
		}
		module = module_of((void *)above->fns->offload_write_send_fn);
		if (module != NULL &&
		    is_among(module, passing, ARRAY_SIZE(passing)))
		{
			continue;
		}
		text = talloc_asprintf(
			mem_ctx,
			"%s stands before smbdirect in \"vfs "
			"objects\" and takes server-side copies: "
			"put smbdirect before it",
			module == NULL ? "a module" : module);
		return text == NULL ? "out of memory" : text;
	}
	return above == NULL ? "its list of modules is not as expected" : NULL;
}

/* Of a module that does something about file I/O; NULL: it does not. */
static const void *io_code(const struct vfs_handle_struct *handle)
{
	const struct vfs_fn_pointers *fns = handle->fns;

	if (fns->pread_fn != NULL) {
		return (const void *)fns->pread_fn;
	}
	if (fns->pread_send_fn != NULL) {
		return (const void *)fns->pread_send_fn;
	}
	if (fns->pwrite_fn != NULL) {
		return (const void *)fns->pwrite_fn;
	}
	return (const void *)fns->pwrite_send_fn;
}

bool smbdirect_reach_plain_io(struct vfs_handle_struct *handle)
{
	struct vfs_handle_struct *h = NULL;

	for (h = handle->conn->vfs_handles; h != NULL && h->next != NULL;
	     h = h->next)
	{
		if (h != handle && io_code(h) != NULL) {
			return false;
		}
	}
	return h != NULL;
}

const char *smbdirect_reach_direct_refusal(TALLOC_CTX *mem_ctx,
					   struct vfs_handle_struct *handle)
{
	struct vfs_handle_struct *h = NULL;
	const char *module = NULL;
	const char *text = NULL;

	for (h = handle->conn->vfs_handles; h != NULL && h->next != NULL;
	     h = h->next)
	{
		if (h == handle || io_code(h) == NULL) {
			continue;
		}
		module = module_of(io_code(h));
		if (module != NULL &&
		    is_among(module, plain, ARRAY_SIZE(plain)))
		{
			continue;
		}
		text = talloc_asprintf(mem_ctx,
				       "%s in \"vfs objects\" takes reads and "
				       "writes",
				       module == NULL ? "a module" : module);
		return text == NULL ? "out of memory" : text;
	}
	return h == NULL ? "its list of modules is not as expected" : NULL;
}
