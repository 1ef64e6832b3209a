/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is installed as smbdirect.so among Samba's VFS modules. smbd refuses all
 * tree connects to a share one of whose modules does not load, and ours are
 * built for one series of Samba each: after an upgrade of Samba there may be
 * none. So this one loads in every smbd, looks for the build for it in
 * ../smbdirect beside its own directory, and where there is none, or it
 * refuses, passes everything through. An upgrade then costs speed and not the
 * service.
 *
 * Knows no header of Samba's: what it uses of smbd are three functions, by
 * name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#define STATUS_OK 0
#define STATUS_UNSUCCESSFUL UINT32_C(0xC0000001)

typedef const char *version_fn(void);
typedef uint32_t register_fn(int interface,
			     const char *name,
			     const void *functions);
typedef uint32_t init_fn(void *context);

/*
 * As struct vfs_fn_pointers without any: larger than that of any series, and
 * smbd calls nothing that is NULL.
 */
static const void *const no_functions[1024];

/* The number of the VFS interface, as far as it is known. */
static const struct {
	unsigned minor; /* of Samba 4, and those that follow */
	int interface;
} interfaces[] = {
	{17, 47},
	{18, 48},
	{19, 49},
	{22, 50},
	{23, 51},
	{24, 52},
	{25, 53},
};

static int known_interface(unsigned minor)
{
	int interface = interfaces[0].interface;
	size_t i;

	for (i = 0; i < sizeof(interfaces) / sizeof(interfaces[0]); i++) {
		if (interfaces[i].minor <= minor) {
			interface = interfaces[i].interface;
		}
	}
	return interface;
}

/* "DIRECTORY/../smbdirect/smbdirect-MAJOR.MINOR.so" */
static int path_of_build(unsigned major,
			 unsigned minor,
			 char *path,
			 size_t size)
{
	const char *slash = NULL;
	Dl_info self;
	int len;

	if (dladdr(&no_functions, &self) == 0 || self.dli_fname == NULL) {
		return -1;
	}
	slash = strrchr(self.dli_fname, '/');
	if (slash == NULL) {
		return -1;
	}
	len = snprintf(path,
		       size,
		       "%.*s/../smbdirect/smbdirect-%u.%u.so",
		       (int)(slash - self.dli_fname),
		       self.dli_fname,
		       major,
		       minor);
	return len > 0 && (size_t)len < size ? 0 : -1;
}

static const char *load_build(const char *path, void *context)
{
	init_fn *init = NULL;
	void *build = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (build == NULL) {
		return dlerror();
	}
	*(void **)&init = dlsym(build, "samba_init_module");
	if (init == NULL) {
		return "it is no module of Samba's";
	}
	return init(context) == STATUS_OK ? NULL : "it refuses this Samba";
}

/*
 * smbd writes to its log what it does not like about a number, so the right one
 * comes first where it is known. The next series' are above it.
 */
static uint32_t pass_through(register_fn *registers, unsigned minor)
{
	int interface = known_interface(minor);
	int distance;

	for (distance = 0; distance < 24; distance++) {
		if (registers(interface + distance,
			      "smbdirect",
			      no_functions) == STATUS_OK ||
		    (distance > 0 && registers(interface - distance,
					       "smbdirect",
					       no_functions) == STATUS_OK))
		{
			return STATUS_OK;
		}
	}
	return STATUS_UNSUCCESSFUL;
}

__attribute__((visibility("default"))) uint32_t
samba_init_module(void *context);

uint32_t samba_init_module(void *context)
{
	version_fn *version = NULL;
	register_fn *registers = NULL;
	const char *problem = "its own path is not known";
	char path[PATH_MAX];
	unsigned major, minor;

	*(void **)&version = dlsym(RTLD_DEFAULT, "samba_version_string");
	*(void **)&registers = dlsym(RTLD_DEFAULT, "smb_register_vfs");
	if (version == NULL || registers == NULL ||
	    sscanf(version(), "%u.%u", &major, &minor) != 2)
	{
		return STATUS_UNSUCCESSFUL;
	}
	if (path_of_build(major, minor, path, sizeof(path)) == 0) {
		problem = load_build(path, context);
	}
	if (problem == NULL) {
		return STATUS_OK;
	}
	syslog(LOG_DAEMON | LOG_WARNING,
	       "vfs_smbdirect: no build for Samba %u.%u (%s): "
	       "shares are served without it",
	       major,
	       minor,
	       problem);
	return pass_through(registers, minor);
}
