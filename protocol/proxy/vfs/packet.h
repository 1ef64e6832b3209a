/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One packet of the link, as smbdirect_area.h lays it out: SMBDIRECT_LINK_SIZE
 * bytes, little-endian. Pure: no socket, no memory but the caller's.
 */
#ifndef PACKET_H
#define PACKET_H

#include "protocol/proxy/smbdirect_area.h"

struct smbdirect_packet {
	uint8_t bytes[SMBDIRECT_LINK_SIZE];
};

static inline void smbdirect_packet_init(struct smbdirect_packet *packet,
					 enum smbdirect_link_type type)
{
	memset(packet, 0, sizeof(*packet));
	SIVAL(packet->bytes, SMBDIRECT_LINK_AT_TYPE, type);
}

static inline void smbdirect_packet_set_number(struct smbdirect_packet *packet,
					       uint32_t number)
{
	SIVAL(packet->bytes, SMBDIRECT_LINK_AT_NUMBER, number);
}

static inline void smbdirect_packet_set_session(struct smbdirect_packet *packet,
						uint64_t session)
{
	SBVAL(packet->bytes, SMBDIRECT_LINK_AT_SESSION, session);
}

static inline void smbdirect_packet_set_token(struct smbdirect_packet *packet,
					      const uint8_t *token)
{
	memcpy(packet->bytes + SMBDIRECT_LINK_AT_TOKEN,
	       token,
	       SMBDIRECT_TOKEN_SIZE);
}

/* What does not fit is cut; the last byte stays a zero. */
static inline void smbdirect_packet_set_text(struct smbdirect_packet *packet,
					     const char *text)
{
	size_t len = MIN(strlen(text), SMBDIRECT_LINK_TEXT_SIZE - 1);

	memcpy(packet->bytes + SMBDIRECT_LINK_AT_TEXT, text, len);
}

static inline uint32_t smbdirect_packet_type(
	const struct smbdirect_packet *packet)
{
	return IVAL(packet->bytes, SMBDIRECT_LINK_AT_TYPE);
}

static inline const uint8_t *smbdirect_packet_token(
	const struct smbdirect_packet *packet)
{
	return packet->bytes + SMBDIRECT_LINK_AT_TOKEN;
}

#endif
