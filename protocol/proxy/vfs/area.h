/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The areas: memory that a worker shares with this smbd process, each named by
 * a secret token. An area belongs to the link it came over and ends with it.
 * Owns the mapping, which stays for as long as I/O on it runs: a thread of
 * smbd's pool may be writing there.
 */
#ifndef AREA_H
#define AREA_H

#include "protocol/proxy/smbdirect_area.h"

struct smbdirect_area;
struct smbdirect_link;

/* Maps the memfd; fd stays the caller's. */
NTSTATUS smbdirect_area_add(struct smbdirect_link *link,
			    const uint8_t *token,
			    int fd);

/*
 * No I/O starts on it any more, and the last one says AREA_GONE. False when
 * that link has no such area.
 */
bool smbdirect_area_drop(struct smbdirect_link *link, const uint8_t *token);

/* All areas of that link are dropped, and nobody is told. */
void smbdirect_area_link_closed(struct smbdirect_link *link);

/* NULL when there is none. Takes the same time for all tokens. */
struct smbdirect_area *smbdirect_area_find(const uint8_t *token);

/* The memory at offset, NULL when length bytes there are not all inside. */
uint8_t *smbdirect_area_memory(struct smbdirect_area *area,
			       uint64_t offset,
			       uint32_t length);

/*
 * Whoever hands the memory to a thread holds the area until the thread is done,
 * not until nobody waits for it any more: see io.c.
 */
void smbdirect_area_hold(struct smbdirect_area *area);
void smbdirect_area_release(struct smbdirect_area *area);

#endif
