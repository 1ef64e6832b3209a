// SPDX-License-Identifier: MIT
// Data through a whole smbdirect-connect and back: every byte compared, inline and by RDMA, whatever the
// message sizes and however the bytes arrive.
#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include <doctest/doctest.h>

#include "rig.h"
#include "workers/connect/client_session.h"

namespace smbdirect::workers::connect::test {

namespace {

constexpr uint64_t kSeed = 20240607;

bool holds(const std::vector<std::byte>& file, size_t offset, const Bytes& data) {
  return file.size() >= offset + data.size() &&
         std::equal(data.begin(), data.end(), file.begin() + static_cast<std::ptrdiff_t>(offset));
}

/// Writes and reads back, one request at a time. Returns what differed first, or "".
std::string write_and_read(Client& client, const std::vector<uint32_t>& sizes) {
  client.greet();
  for (const uint32_t size : sizes) {
    const Bytes data = pattern(size, kSeed + size);
    client.send_pdu(client.write(size % 1000, data));
    const auto written = client.receive_pdu();
    if (!written || status_of(*written) != 0) return "WRITE of " + std::to_string(size);
    client.send_pdu(client.read(size % 1000, size));
    const auto answer = client.receive_pdu();
    if (!answer || status_of(*answer) != 0) return "READ of " + std::to_string(size);
    if (read_data(*answer) != data) return "data of " + std::to_string(size);
  }
  return "";
}

void run_sizes(const RigSettings& settings, const std::vector<uint32_t>& sizes, bool by_rdma) {
  Rig rig(settings);
  std::string differs = "never ran";
  rig.run([&](Client& client) { differs = write_and_read(client, sizes); });
  CHECK(differs == "");
  uint64_t channel = 0;
  for (const uint32_t size : sizes) channel += size >= settings.options.threshold ? size : 0;
  rig.stop();
  const Counters counters = rig.counters();
  CHECK(counters.rdma_read_bytes == (by_rdma ? channel : 0));
  CHECK(counters.rdma_write_bytes == (by_rdma ? channel : 0));
  CHECK(counters.smb_requests == 1 + 2 * sizes.size());
  CHECK(counters.smb_responses == 1 + 2 * sizes.size());
  CHECK(counters.connections == 1);
}

}  // namespace

TEST_CASE("data passes both ways, inline and by RDMA, whatever the message sizes") {
  const std::vector<uint32_t> sizes = {1, 17, 4095, 4096, 4097, 65536, 300'000, 1'000'000};
  for (const bool rdma_io : {false, true}) {
    for (const uint32_t message : {128u, 129u, 512u, 1364u, 8192u}) {
      CAPTURE(rdma_io);
      CAPTURE(message);
      RigSettings settings;
      settings.options.rdma_io = rdma_io;
      settings.server.limits.max_receive_size = message;
      settings.server.limits.max_send_size = message;
      run_sizes(settings, sizes, rdma_io);
    }
  }
}

TEST_CASE("one credit each way, no CRC, MPA revision 1") {
  RigSettings settings;
  settings.options.rdma_io = true;
  settings.options.iwarp.want_crc = false;
  settings.server.iwarp.want_crc = false;
  settings.options.iwarp.mpa_revision = 1;
  settings.options.limits.receive_credit_max = 2;
  settings.options.limits.receive_credit_initial = 1;
  settings.options.limits.send_credit_target = 1;
  settings.options.limits.max_receive_size = 128;
  run_sizes(settings, {5, 3000, 50'000}, true);
}

TEST_CASE("large READ and WRITE name several pieces of memory") {
  RigSettings settings;
  settings.options.rdma_io = true;
  settings.file_size = 9u << 20;
  Rig rig(settings);
  std::string differs = "never ran";
  rig.run([&](Client& client) { differs = write_and_read(client, {8u << 20, 3u << 20}); });
  CHECK(differs == "");
  CHECK(rig.server().most_descriptors() > 8);
  CHECK(rig.server().rdma_channel_requests() == 4);
}

TEST_CASE("only unsigned READ and WRITE of SMB 3.0 at or above the threshold travel by RDMA") {
  const auto rdma_channel_requests = [](RigSettings settings, bool is_signed, uint32_t size) {
    settings.options.rdma_io = true;
    Rig rig(settings);
    bool same = false;
    const Bytes data = pattern(size, kSeed);
    rig.run([&](Client& client) {
      client.greet();
      client.send_pdu(client.write(0, data, is_signed));
      (void)client.receive_pdu();
      client.send_pdu(client.read(0, size, is_signed));
      const auto answer = client.receive_pdu();
      same = answer && read_data(*answer) == data;
    });
    CHECK(same);
    return rig.server().rdma_channel_requests();
  };
  RigSettings settings;
  CHECK(rdma_channel_requests(settings, false, 4096) == 2);
  CHECK(rdma_channel_requests(settings, false, 4095) == 0);
  CHECK(rdma_channel_requests(settings, true, 4096) == 0);
  settings.server.dialect = 0x0210;
  CHECK(rdma_channel_requests(settings, false, 4096) == 0);
  settings.server.dialect = 0x0300;  // channel without invalidation
  CHECK(rdma_channel_requests(settings, false, 4096) == 2);
  settings.server.limits.max_read_write_size = 64 * 1024;
  CHECK(rdma_channel_requests(settings, false, 64 * 1024) == 2);
  CHECK(rdma_channel_requests(settings, false, 64 * 1024 + 1) == 0);
}

TEST_CASE("interim answers, errors, short reads and inline answers to RDMA-channel requests") {
  const auto status_and_data = [](void (*change)(ServerScript&), size_t answers) {
    RigSettings settings;
    change(settings.server);
    settings.options.rdma_io = true;
    Rig rig(settings);
    rig.server().file() = pattern(1 << 20, kSeed);
    std::vector<Bytes> got;
    rig.run([&](Client& client) {
      client.greet();
      client.send_pdu(client.read(100, 50'000));
      for (size_t i = 0; i < answers; ++i) got.push_back(client.receive_pdu().value_or(Bytes(80)));
    });
    CHECK(rig.server().rdma_channel_requests() == 1);
    return got;
  };
  const Bytes file = pattern(1 << 20, kSeed);
  const Bytes wanted(file.begin() + 100, file.begin() + 50'100);

  SUBCASE("interim") {
    const auto got = status_and_data([](ServerScript& s) { s.interim = true; }, 2);
    CHECK(status_of(got[0]) == 0x103);
    CHECK(read_data(got[1]) == wanted);
  }
  SUBCASE("error") {
    const auto got = status_and_data([](ServerScript& s) { s.error_status = 0xC0000022; }, 1);
    CHECK(status_of(got[0]) == 0xC0000022);
    CHECK(got[0].size() == 73);
  }
  SUBCASE("short") {
    const auto got = status_and_data([](ServerScript& s) { s.short_read = 777; }, 1);
    CHECK(read_data(got[0]) == Bytes(wanted.begin(), wanted.begin() + 777));
  }
  SUBCASE("inline") {
    const auto got = status_and_data([](ServerScript& s) { s.answer_inline = true; }, 1);
    CHECK(read_data(got[0]) == wanted);
  }
}

TEST_CASE("many requests under way, answered together") {
  for (const bool rdma_io : {false, true}) {
    CAPTURE(rdma_io);
    constexpr size_t kRequests = 200;
    RigSettings settings;
    settings.options.rdma_io = rdma_io;
    settings.server.hold_until = 0;
    settings.file_size = 4u << 20;
    Rig rig(settings);
    const Bytes file = pattern(settings.file_size, kSeed);
    rig.server().file() = file;
    size_t right = 0;
    rig.run([&](Client& client) {
      client.greet();
      for (size_t i = 0; i < kRequests; ++i) client.send_pdu(client.read(i * 20'000, 20'000));
      for (size_t i = 0; i < kRequests; ++i) {
        const auto answer = client.receive_pdu();
        if (!answer) return;
        right += read_data(*answer).size() == 20'000 && holds(file, i * 20'000, read_data(*answer)) ? 1 : 0;
      }
    });
    CHECK(right == kRequests);
  }
}

TEST_CASE("requests beyond the memory budget wait for it") {
  RigSettings settings;
  settings.options.rdma_io = true;
  settings.file_size = 8u << 20;
  Rig rig(settings);
  const Bytes file = pattern(settings.file_size, kSeed);
  rig.server().file() = file;
  size_t right = 0;
  constexpr size_t kRequests = 8;  // twice the budget of 32 MiB
  rig.run([&](Client& client) {
    client.greet();
    for (size_t i = 0; i < kRequests; ++i) client.send_pdu(client.read(0, 8u << 20));
    for (size_t i = 0; i < kRequests; ++i) {
      const auto answer = client.receive_pdu();
      right += answer && read_data(*answer) == file ? 1 : 0;
    }
    for (size_t i = 0; i < kRequests; ++i) client.send_pdu(client.write(0, file));
    for (size_t i = 0; i < kRequests; ++i) {
      const auto answer = client.receive_pdu();
      right += answer && status_of(*answer) == 0 ? 1 : 0;
    }
  });
  CHECK(right == 2 * kRequests);
  CHECK(rig.server().rdma_channel_requests() == 2 * kRequests);
}

TEST_CASE("requests that arrive in pieces of any size") {
  for (const bool rdma_io : {false, true}) {
    CAPTURE(rdma_io);
    CAPTURE(kSeed);
    RigSettings settings;
    settings.options.rdma_io = rdma_io;
    Rig rig(settings);
    std::mt19937_64 random(kSeed);
    const Bytes data = pattern(100'000, kSeed);
    bool same = false;
    rig.run([&](Client& client) {
      client.greet();
      Bytes stream;
      const auto add = [&](const Bytes& pdu) {
        const auto word = protocol::smb2::encode_nbt(static_cast<uint32_t>(pdu.size()));
        stream.insert(stream.end(), word.begin(), word.end());
        stream.insert(stream.end(), pdu.begin(), pdu.end());
      };
      add(client.echo());
      add(client.write(10, data));
      add(client.echo());
      add(client.read(10, 100'000));
      for (size_t at = 0; at < stream.size();) {
        const size_t most = at < 500 ? 3 : 5000;  // headers byte by byte
        const size_t here = std::min<size_t>(1 + random() % most, stream.size() - at);
        client.send(std::span(stream).subspan(at, here));
        at += here;
      }
      for (int i = 0; i < 3; ++i) (void)client.receive_pdu();
      const auto answer = client.receive_pdu();
      same = answer && read_data(*answer) == data;
    });
    CHECK(same);
  }
}

TEST_CASE("a client that pauses longer than the server waits for credits keeps its connection") {
  RigSettings settings;
  settings.server.limits.send_credit_timeout = 1000;
  settings.file_size = 1u << 20;
  Rig rig(settings);
  const Bytes file = pattern(settings.file_size, kSeed);
  rig.server().file() = file;
  size_t right = 0;
  constexpr size_t kRequests = 16;  // 16 MiB: more than sockets and receive buffers hold
  rig.run([&](Client& client) {
    client.greet();
    for (size_t i = 0; i < kRequests; ++i) client.send_pdu(client.read(0, 1u << 20));
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));  // beyond the server's patience
    for (size_t i = 0; i < kRequests; ++i) {
      const auto answer = client.receive_pdu();
      right += answer && read_data(*answer) == file ? 1 : 0;
    }
  });
  CHECK(right == kRequests);
  rig.stop();
  CHECK(rig.counters().copied_bytes > 0);
}

TEST_CASE("eight clients at once") {
  RigSettings settings;
  settings.options.rdma_io = true;
  settings.file_size = 8 * 200'000;
  Rig rig(settings);
  std::vector<std::function<void(Client&)>> scripts;
  std::array<size_t, 8> right{};
  for (size_t n = 0; n < right.size(); ++n) {
    scripts.emplace_back([&right, n](Client& client) {
      client.greet();
      for (uint64_t round = 0; round < 20; ++round) {
        const Bytes data = pattern(1 + (round * 9973 + n) % 200'000, kSeed + n + round);
        client.send_pdu(client.write(n * 200'000, data));
        client.send_pdu(client.read(n * 200'000, static_cast<uint32_t>(data.size())));
        (void)client.receive_pdu();
        const auto answer = client.receive_pdu();
        right[n] += answer && read_data(*answer) == data ? 1 : 0;
      }
    });
  }
  rig.run(scripts);
  for (const size_t count : right) CHECK(count == 20);
  rig.stop();
  CHECK(rig.counters().connections == 8);
}

TEST_CASE("payload of RDMA-channel I/O never travels inside messages") {
  RigSettings settings;
  settings.options.rdma_io = true;
  Rig rig(settings);
  const Bytes data = pattern(500'000, kSeed);
  rig.run([&](Client& client) {
    client.greet();
    for (int i = 0; i < 30; ++i) {
      client.send_pdu(client.write(0, data));
      (void)client.receive_pdu();
      client.send_pdu(client.read(0, 500'000));
      (void)client.receive_pdu();
    }
  });
  rig.stop();
  CHECK(rig.counters().rdma_read_bytes == 15'000'000);
  CHECK(rig.counters().bytes_inline_sent < 100'000);
}

}  // namespace smbdirect::workers::connect::test
