// SPDX-License-Identifier: MIT
#include "tests/load/crowd.h"

#include <algorithm>

namespace smbdirect::tests::load {

namespace {

constexpr uint64_t kTalkers =
    25;  // one connection of so many goes as far as SMB2: each is a process of smbd's

enum Command : uint16_t { kSessionSetup = 1, kWrite = 9, kCancel = 12, kEcho = 13 };

Bytes echo() {
  Bytes body;
  put(body, 4, 2);
  put(body, 0, 2);
  return body;
}

/// WRITE (MS-SMB2 2.2.21) of `length` bytes that are to be fetched from memory of the client's.
Bytes rdma_channel_write(uint32_t length) {
  Bytes body;
  put(body, 49, 2);
  put(body, 0, 2);
  put(body, 0, 4);
  put(body, 0, 8);
  put(body, UINT64_MAX, 8);
  put(body, UINT64_MAX, 8);
  put(body, 1, 4);
  put(body, length, 4);
  put(body, 112, 2);
  put(body, 16, 2);
  put(body, 0, 4);
  put(body, 0x1000, 8);
  put(body, 0x77, 4);
  put(body, length, 4);
  return body;
}

}  // namespace

Bytes Crowd::noise(size_t most) {
  Bytes bytes(1 + below(most));
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_());
  return bytes;
}

void Crowd::talk(IwarpClient& client, uint64_t pdus) {
  for (uint64_t n = 1; n <= pdus; ++n) {
    const uint64_t kind = below(1'000);
    const size_t fragment = kind % 16 == 0 ? 1 + below(60) : 8192;
    bool well = true;
    if (kind < 960) {
      well = client.say(smb2_request(kEcho, n, echo()), fragment);
    } else if (kind < 994) {
      well = client.say(smb2_request(kCancel, n, echo()), fragment);
    } else {
      well = client.say(smb2_request(kSessionSetup, n, noise(100)), fragment);
    }
    ++pdus_;
    if (!well || !client.hear(0)) return;
  }
  // Nobody will send the data of these.
  for (uint64_t n = below(4); n > 0; --n) {
    ++pdus_;
    if (!client.say(
            smb2_request(kWrite, pdus + n, rdma_channel_write(static_cast<uint32_t>(1 + below(100'000)))),
            8192))
      return;
  }
}

void Crowd::one(uint64_t pdus) {
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(first_source_ + static_cast<uint32_t>(below(64)));
  IwarpClient client;
  ++connections_;
  if (!client.connect(from, to_)) {
    ++turned_away_;
    return;
  }
  const uint64_t stage = pdus > 0 ? 5 : below(5);
  if (stage == 0) {
    if (below(2) == 0) client.raw(noise(100));
    return client.close(below(2) == 0);
  }
  if (!client.mpa()) {
    ++turned_away_;
    return;
  }
  if (stage == 1) {
    client.raw(noise(300));
  } else if (stage == 2) {
    client.send(noise(64));
  } else if (!client.negotiate()) {
    ++turned_away_;
  } else if (stage == 3) {
    client.send(noise(200));
  } else if (stage == 4) {
    (void)client.say(noise(3'000), 1 + below(500));  // no NEGOTIATE, or the half of it
  } else if (client.smb2_negotiate(random_())) {
    talk(client, pdus);
  } else {
    ++turned_away_;
  }
  client.close(below(2) == 0);
}

void Crowd::run(uint64_t connections, uint64_t pdus) {
  const uint64_t talkers = std::max<uint64_t>(1, connections / kTalkers);
  for (uint64_t n = 0; n < connections; ++n)
    one(n % kTalkers == 0 ? std::max<uint64_t>(1, pdus / talkers) : 0);
}

}  // namespace smbdirect::tests::load
