// SPDX-License-Identifier: MIT
// Requests that the server does not answer, and servers that say what is not so: nothing that comes behind
// waits for ever, and no client gets what another left in memory.
#include <algorithm>
#include <chrono>
#include <thread>

#include <doctest/doctest.h>

#include "protocol/smb2/pdu.h"
#include "rig.h"

namespace smbdirect::workers::connect::test {

namespace {

namespace smb2 = protocol::smb2;

constexpr uint32_t kInsufficientResources = 0xC000009A;
constexpr uint32_t kPipeRead = 64 * 1024;
constexpr uint64_t kReadsThatFit = (32u << 20) / kPipeRead;

RigSettings silent() {
  RigSettings settings;
  settings.options.rdma_io = true;
  settings.server.never_answer_io = true;
  settings.file_size = 8u << 20;
  return settings;
}

/// The next answer is a good one to the ECHO that is sent now.
bool echoes(Client& client) {
  const Bytes echo = client.echo();
  client.send_pdu(echo);
  const auto answer = client.receive_pdu();
  return answer && status_of(*answer) == 0 &&
         smb2::parse_header(*answer)->message_id == smb2::parse_header(echo)->message_id;
}

}  // namespace

TEST_CASE("READs that are not answered hold nothing up: those that find no memory travel inside messages") {
  Rig rig(silent());
  bool first = false;
  bool second = false;
  constexpr uint64_t kReads = 700;
  rig.run([&](Client& client) {
    client.greet();
    for (uint64_t i = 0; i < kReads; ++i) client.send_pdu(client.read(0, kPipeRead));
    first = echoes(client);
    client.send_pdu(client.read(0, kPipeRead));
    second = echoes(client);
  });
  CHECK(first);
  CHECK(second);
  CHECK(rig.server().rdma_channel_requests() == kReadsThatFit);
  CHECK(rig.server().requests() == 1 + kReads + 1 + 2);
}

TEST_CASE("WRITEs that are not answered hold nothing up") {
  for (const uint32_t size : {5000u, 64u * 1024, 1u << 20, 8u << 20}) {
    CAPTURE(size);
    Rig rig(silent());
    bool goes_on = false;
    const uint64_t writes = (48u << 20) / size;  // more than the memory there is
    rig.run([&](Client& client) {
      client.greet();
      const Bytes data = pattern(size, 3);
      for (uint64_t i = 0; i < writes; ++i) client.send_pdu(client.write(0, data));
      goes_on = echoes(client);
    });
    CHECK(goes_on);
    CHECK(rig.server().requests() == 1 + writes + 1);
    CHECK(rig.server().rdma_channel_requests() > 0);
    CHECK(rig.server().rdma_channel_requests() < writes);
  }
}

TEST_CASE("what finds no memory and is too long for a message is refused, and what follows it is served") {
  RigSettings settings = silent();
  settings.options.limits.max_fragmented_size = 131'072;
  settings.server.limits.max_fragmented_size = 131'072;
  for (const bool read : {true, false}) {
    CAPTURE(read);
    Rig rig(settings);
    std::optional<Bytes> answer;
    uint64_t refused_id = 0;
    bool goes_on = false;
    rig.run([&](Client& client) {
      client.greet();
      const Bytes data = pattern(4u << 20, 3);
      for (int i = 0; i < 8 && read; ++i) client.send_pdu(client.read(0, 4u << 20));
      for (int i = 0; i < 7 && !read; ++i) client.send_pdu(client.write(0, data));
      const Bytes last = read ? client.read(0, 4u << 20) : client.write(0, data);
      refused_id = smb2::parse_header(last)->message_id;
      client.send_pdu(last);
      answer = client.receive_pdu();
      goes_on = echoes(client);
    });
    REQUIRE(answer);
    const auto header = smb2::parse_header(*answer);
    REQUIRE(header);
    CHECK(header->status == kInsufficientResources);
    CHECK(header->command == (read ? smb2::Command::read : smb2::Command::write));
    CHECK(header->message_id == refused_id);
    CHECK(header->credits == 64);  // the server's
    CHECK(answer->size() == 73);
    CHECK(goes_on);
  }
}

TEST_CASE("memory that a client holds by not reading is waited for") {
  RigSettings settings;
  settings.options.rdma_io = true;
  settings.file_size = 8u << 20;
  Rig rig(settings);
  const Bytes file = pattern(settings.file_size, 5);
  rig.server().file() = file;
  size_t right = 0;
  constexpr size_t kReads = 12;  // three times the memory
  rig.run([&](Client& client) {
    client.greet();
    for (size_t i = 0; i < kReads; ++i) client.send_pdu(client.read(0, 8u << 20));
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    for (size_t i = 0; i < kReads; ++i) {
      const auto answer = client.receive_pdu();
      right += answer && read_data(*answer) == file ? 1 : 0;
    }
  });
  CHECK(right == kReads);
  CHECK(rig.server().rdma_channel_requests() == kReads);
}

TEST_CASE("bytes that the server says it placed and did not are never those of another client") {
  RigSettings settings;
  settings.options.rdma_io = true;
  settings.server.lie = true;
  settings.file_size = 4u << 20;
  Rig rig(settings);
  for (const uint32_t size : {60'000u, 1u << 20}) {
    const Bytes secret(size, std::byte{0x5A});
    rig.run([&](Client& client) {
      client.greet();
      for (int i = 0; i < 8; ++i) client.send_pdu(client.write(0, secret));
      for (int i = 0; i < 8; ++i) (void)client.receive_pdu();
    });
    Bytes got;
    rig.run([&](Client& client) {
      client.greet();
      client.send_pdu(client.read(0, size));
      if (const auto answer = client.receive_pdu()) got = read_data(*answer);
    });
    CHECK(got.size() == size);
    CHECK(std::ranges::count(got, std::byte{0}) == static_cast<std::ptrdiff_t>(got.size()));
  }
}

}  // namespace smbdirect::workers::connect::test
