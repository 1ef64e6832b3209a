/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mapping, finding and giving up areas. */
#include "includes.h"
#include <sys/mman.h>

#include "protocol/proxy/vfs/area.h"
#include "protocol/proxy/vfs/link.h"

#undef DBGC_CLASS
#define DBGC_CLASS DBGC_VFS

struct smbdirect_area {
	struct smbdirect_area *prev, *next;
	uint8_t token[SMBDIRECT_TOKEN_SIZE];
	uint8_t *base;
	size_t size;
	struct smbdirect_link *link; /* NULL once that is closed */
	unsigned holds;
	bool dropped; /* still in the list, but no longer found */
};

static struct smbdirect_area *areas;

/* The time does not tell how many bytes of a guess are right. */
static bool token_equal(const uint8_t *a, const uint8_t *b)
{
	uint8_t different = 0;
	size_t i;

	for (i = 0; i < SMBDIRECT_TOKEN_SIZE; i++) {
		different |= a[i] ^ b[i];
	}
	return different == 0;
}

/* All are compared, whichever it is. No two in the list have one token. */
static struct smbdirect_area *area_by_token(const uint8_t *token)
{
	struct smbdirect_area *area = NULL;
	struct smbdirect_area *found = NULL;

	for (area = areas; area != NULL; area = area->next) {
		if (token_equal(area->token, token)) {
			found = area;
		}
	}
	return found;
}

struct smbdirect_area *smbdirect_area_find(const uint8_t *token)
{
	struct smbdirect_area *area = area_by_token(token);

	return area == NULL || area->dropped ? NULL : area;
}

uint8_t *smbdirect_area_memory(struct smbdirect_area *area,
			       uint64_t offset,
			       uint32_t length)
{
	if (offset > area->size || length > area->size - offset) {
		return NULL;
	}
	return area->base + offset;
}

static bool link_has_room(struct smbdirect_link *link)
{
	struct smbdirect_area *area = NULL;
	unsigned count = 0;

	for (area = areas; area != NULL; area = area->next) {
		count += area->link == link ? 1 : 0;
	}
	return count < SMBDIRECT_AREAS_PER_LINK;
}

/* Without the seal, whoever shortens the file ends smbd with SIGBUS. */
static NTSTATUS area_size(int fd, size_t *size)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals == -1 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &st) != 0)
	{
		return NT_STATUS_INVALID_PARAMETER;
	}
	if (st.st_size <= 0 || (uint64_t)st.st_size > SMBDIRECT_AREA_LIMIT) {
		return NT_STATUS_INVALID_PARAMETER;
	}
	*size = st.st_size;
	return NT_STATUS_OK;
}

NTSTATUS smbdirect_area_add(struct smbdirect_link *link,
			    const uint8_t *token,
			    int fd)
{
	struct smbdirect_area *area = NULL;
	size_t size = 0;
	NTSTATUS status;
	void *base = NULL;

	status = area_size(fd, &size);
	if (!NT_STATUS_IS_OK(status)) {
		return status;
	}
	if (area_by_token(token) != NULL) {
		return NT_STATUS_OBJECT_NAME_COLLISION;
	}
	if (!link_has_room(link)) {
		return NT_STATUS_INSUFFICIENT_RESOURCES;
	}
	area = talloc_zero(NULL, struct smbdirect_area);
	if (area == NULL) {
		return NT_STATUS_NO_MEMORY;
	}
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) {
		status = map_nt_error_from_unix(errno);
		TALLOC_FREE(area);
		return status;
	}
	/* Clients' data is no business of helpers, nor of core dumps */
	madvise(base, size, MADV_DONTFORK);
	madvise(base, size, MADV_DONTDUMP);
	memcpy(area->token, token, SMBDIRECT_TOKEN_SIZE);
	area->base = base;
	area->size = size;
	area->link = link;
	DLIST_ADD(areas, area);
	return NT_STATUS_OK;
}

/* The worker may use the memory for something else from AREA_GONE on. */
static void area_end_if_idle(struct smbdirect_area *area)
{
	struct smbdirect_packet gone;

	if (!area->dropped || area->holds > 0) {
		return;
	}
	munmap(area->base, area->size);
	if (area->link != NULL) {
		smbdirect_packet_init(&gone, SMBDIRECT_LINK_AREA_GONE);
		smbdirect_packet_set_token(&gone, area->token);
		smbdirect_link_send(area->link, &gone);
	}
	DLIST_REMOVE(areas, area);
	TALLOC_FREE(area);
}

bool smbdirect_area_drop(struct smbdirect_link *link, const uint8_t *token)
{
	struct smbdirect_area *area = smbdirect_area_find(token);

	if (area == NULL || area->link != link) {
		return false;
	}
	area->dropped = true;
	area_end_if_idle(area);
	return true;
}

void smbdirect_area_link_closed(struct smbdirect_link *link)
{
	struct smbdirect_area *area = NULL;
	struct smbdirect_area *next = NULL;

	for (area = areas; area != NULL; area = next) {
		next = area->next;
		if (area->link == link) {
			area->link = NULL;
			area->dropped = true;
			area_end_if_idle(area);
		}
	}
}

void smbdirect_area_hold(struct smbdirect_area *area)
{
	area->holds++;
}

void smbdirect_area_release(struct smbdirect_area *area)
{
	SMB_ASSERT(area->holds > 0);
	area->holds--;
	area_end_if_idle(area);
}
