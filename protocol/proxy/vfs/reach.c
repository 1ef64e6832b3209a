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

static bool passes_on(const char *module)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(passing); i++) {
		if (strcmp(module, passing[i]) == 0) {
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
		if (module != NULL && passes_on(module)) {
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

bool smbdirect_reach_plain_io(struct vfs_handle_struct *handle)
{
	struct vfs_handle_struct *h = NULL;

	for (h = handle->conn->vfs_handles; h != NULL && h->next != NULL;
	     h = h->next)
	{
		if (h != handle && (h->fns->pread_fn != NULL ||
				    h->fns->pread_send_fn != NULL ||
				    h->fns->pwrite_fn != NULL ||
				    h->fns->pwrite_send_fn != NULL))
		{
			return false;
		}
	}
	return h != NULL;
}
