// SPDX-License-Identifier: MIT
// Any bytes as the state of a channel that comes from another process, with a socket and a small sealed area.
// What imports works: its events come and end, what waited is sent, and it is exported as it was imported.
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "protocol/proxy/smbdirect_peer.h"

namespace {

constexpr size_t kAreaBytes = 4096;

void require(bool condition) {
  if (!condition) std::abort();
}

/// A new one for each input: importing takes it.
int make_area() {
  const int fd = memfd_create("area", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  require(fd >= 0 && ftruncate(fd, kAreaBytes) == 0);
  require(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  return fd;
}

std::vector<uint8_t> exported(smbdirect_channel* channel, std::array<int, 2>& descriptors) {
  size_t size = 0;
  require(smbdirect_channel_export(channel, descriptors.data(), nullptr, &size) == -ENOSPC);
  std::vector<uint8_t> state(size);
  require(smbdirect_channel_export(channel, descriptors.data(), state.data(), &size) == 0);
  return state;
}

/// Behind the state's fixed 40 bytes are the facts, two of which are reserved.
bool is_reserved(size_t at) { return at == 40 + 22 || at == 40 + 23; }

/// Uses what can be read of it.
void touch(const uint8_t* bytes, size_t size) {
  static volatile uint8_t sink;
  for (size_t i = 0; i < size; ++i) sink = bytes[i];
  (void)sink;
}

void serve(smbdirect_channel* channel) {
  const smbdirect_facts* facts = smbdirect_channel_facts(channel);
  touch(facts->negotiate, facts->negotiate_size);
  require(facts->area_size == kAreaBytes && facts->max_operations > 0);
  touch(facts->area, facts->area_size);
  smbdirect_event event{};
  int got = 0;
  while ((got = smbdirect_channel_next(channel, &event)) == 1) {
    require(event.type == SMBDIRECT_EVENT_PDU || event.type == SMBDIRECT_EVENT_DONE);
    if (event.type == SMBDIRECT_EVENT_PDU) touch(event.pdu, event.pdu_size);
  }
  require(got == 0 || got == -EPROTO);
  require(smbdirect_channel_attach(channel) == 0);
  const smbdirect_descriptor memory{.offset = 0, .token = 1, .length = 16};
  const int asked = smbdirect_rdma_write(channel, 1, 0, 16, &memory, 1);
  require(asked == 0 || asked == -EAGAIN || asked == -EEXIST);
  require(smbdirect_channel_flush(channel) >= 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::array<int, 2> ends{};
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  std::array<int, 2> descriptors{ends[0], make_area()};
  smbdirect_channel* channel = nullptr;
  if (smbdirect_channel_import(descriptors.data(), data, size, &channel) == 0) {
    const std::vector<uint8_t> state = exported(channel, descriptors);
    require(state.size() == size);
    for (size_t i = 0; i < size; ++i) require(state[i] == data[i] || is_reserved(i));
    require(smbdirect_channel_import(descriptors.data(), state.data(), state.size(), &channel) == 0);
    serve(channel);
    smbdirect_channel_close(channel);
  } else {
    require(channel == nullptr);
    for (const int fd : descriptors) close(fd);  // still ours
  }
  close(ends[1]);
  return 0;
}
