/* SPDX-License-Identifier: MIT */
/* The header is C, and each function refuses what it cannot do instead of trusting it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "protocol/proxy/smbdirect_peer.h"

static int failures = 0;

static void check(int holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "not so: %s\n", what);
  ++failures;
}
#define CHECK(condition) check((condition), #condition)

static void check_main(void) {
  struct smbdirect_main* main_process = NULL;
  struct smbdirect_start start;
  CHECK(smbdirect_main_open(NULL, &main_process) == -EINVAL);
  CHECK(smbdirect_main_open("/nonexistent/control", NULL) == -EINVAL);
  CHECK(smbdirect_main_open("/nonexistent/control", &main_process) == -ENOENT);
  CHECK(main_process == NULL);
  CHECK(smbdirect_main_fd(NULL) == -EINVAL);
  CHECK(smbdirect_main_next(NULL, &start) == -EINVAL);
  CHECK(smbdirect_main_failed(NULL, 1, ENOMEM) == -EINVAL);
  smbdirect_main_close(NULL);
}

static void check_channel(void) {
  struct smbdirect_channel* channel = NULL;
  struct smbdirect_start start;
  struct smbdirect_event event;
  memset(&start, 0, sizeof start);
  CHECK(smbdirect_channel_open(NULL, &channel) == -EINVAL);
  CHECK(smbdirect_channel_open(&start, NULL) == -EINVAL);
  CHECK(smbdirect_channel_open(&start, &channel) == -EINVAL);
  strcpy(start.socket, "/nonexistent/worker");
  CHECK(smbdirect_channel_open(&start, &channel) == -ENOENT);
  CHECK(channel == NULL);
  CHECK(smbdirect_channel_facts(NULL) == NULL);
  CHECK(smbdirect_channel_attach(NULL) == -EINVAL);
  CHECK(smbdirect_channel_fd(NULL) == -EINVAL);
  CHECK(smbdirect_channel_events(NULL) == 0);
  CHECK(smbdirect_channel_next(NULL, &event) == -EINVAL);
  CHECK(smbdirect_channel_flush(NULL) == -EINVAL);
  smbdirect_channel_close(NULL);
}

static void check_sending(void) {
  struct iovec piece;
  const uint32_t token = 1;
  struct smbdirect_descriptor memory = {0, 1, 16};
  piece.iov_base = &memory;
  piece.iov_len = sizeof memory;
  CHECK(smbdirect_send_pdu(NULL, &piece, 1, &token, 1) == -EINVAL);
  CHECK(smbdirect_rdma_read(NULL, 1, 0, 16, &memory, 1) == -EINVAL);
  CHECK(smbdirect_rdma_write(NULL, 1, 0, 16, &memory, 1) == -EINVAL);
}

static void check_hand_over(void) {
  struct smbdirect_channel* channel = NULL;
  int descriptors[2] = {-1, -1};
  unsigned char state[16] = {0};
  size_t size = sizeof state;
  CHECK(smbdirect_channel_export(NULL, descriptors, state, &size) == -EINVAL);
  CHECK(smbdirect_channel_import(NULL, state, sizeof state, &channel) == -EINVAL);
  CHECK(smbdirect_channel_import(descriptors, NULL, sizeof state, &channel) == -EINVAL);
  CHECK(smbdirect_channel_import(descriptors, state, sizeof state, NULL) == -EINVAL);
  CHECK(smbdirect_channel_import(descriptors, state, sizeof state, &channel) == -EPROTO);
  CHECK(channel == NULL);
}

int main(void) {
  CHECK(strcmp(smbdirect_peer_version(), SMBDIRECT_PEER_VERSION) == 0);
  CHECK(strcmp(smbdirect_peer_version(), LIBRARY_VERSION) == 0);
  check_main();
  check_channel();
  check_sending();
  check_hand_over();
  return failures == 0 ? 0 : 1;
}
