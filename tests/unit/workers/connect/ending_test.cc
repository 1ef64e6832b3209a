// SPDX-License-Identifier: MIT
// How connections end: at every stage, from either side, in every manner. Nothing may leak (the pools'
// destructors assert it), nothing may hang, and nobody may take a cut PDU for a whole one.
#include <chrono>

#include <doctest/doctest.h>

#include "rig.h"
#include "workers/connect/address.h"

namespace smbdirect::workers::connect::test {

namespace {

constexpr uint64_t kSeed = 7;

RigSettings rdma_settings(const ServerScript& script = {}) {
  RigSettings settings;
  settings.server = script;
  settings.options.rdma_io = true;
  return settings;
}

}  // namespace

TEST_CASE("a client that vanishes after any byte") {
  // Negotiate (108 bytes on the wire), a WRITE by RDMA (20116) and a READ (117): cut in all of them.
  for (const bool by_reset : {false, true}) {
    for (const size_t cut :
         {0u,   1u,   3u,   4u,     60u,     107u,    108u,    109u,    112u,    150u,
          223u, 224u, 225u, 9'000u, 20'223u, 20'224u, 20'225u, 20'300u, 20'340u, 20'341u}) {
      CAPTURE(by_reset);
      CAPTURE(cut);
      Rig rig(rdma_settings());
      const Bytes data = pattern(20'000, kSeed);
      rig.run([&](Client& client) {
        Bytes stream;
        for (const Bytes& pdu : {client.negotiate(), client.write(0, data), client.read(0, 20'000)}) {
          const auto word = protocol::smb2::encode_nbt(static_cast<uint32_t>(pdu.size()));
          stream.insert(stream.end(), word.begin(), word.end());
          stream.insert(stream.end(), pdu.begin(), pdu.end());
        }
        client.send(std::span(stream).first(std::min<size_t>(cut, 108)));
        if (cut >= 108) {
          (void)client.receive_pdu();
          client.send(std::span(stream).subspan(108, cut - 108));
        }
        if (by_reset) client.reset();
      });
      rig.until([&] { return rig.program().sessions() == 0; });
      // A reset may overtake data that was still in the client's socket; a close may not.
      if (cut >= 20'224 && !by_reset) {
        CHECK(std::equal(data.begin(), data.end(), rig.server().file().begin()));
      }
      if (cut < 20'224) CHECK(rig.server().rdma_channel_requests() == 0);
    }
  }
}

TEST_CASE("a client that stops sending still gets its answers") {
  Rig rig(rdma_settings());
  const Bytes data = pattern(300'000, kSeed);
  bool written = false;
  bool by_reset = true;
  rig.run([&](Client& client) {
    client.greet();
    client.send_pdu(client.write(0, data));
    client.half_close();
    const auto answer = client.receive_pdu();
    written = answer && status_of(*answer) == 0;
    by_reset = client.ended_by_reset();
  });
  CHECK(written);
  CHECK_FALSE(by_reset);
  CHECK(std::equal(data.begin(), data.end(), rig.server().file().begin()));
}

TEST_CASE("a server that vanishes instead of answering") {
  for (const bool rdma_io : {false, true}) {
    for (uint64_t after = 1; after <= 4; ++after) {
      for (const bool orderly : {false, true}) {
        CAPTURE(rdma_io);
        CAPTURE(after);
        CAPTURE(orderly);
        ServerScript script;
        (orderly ? script.disconnect_after : script.abort_after) = after;
        RigSettings settings = rdma_settings(script);
        settings.options.rdma_io = rdma_io;
        Rig rig(settings);
        size_t answers = 0;
        rig.run([&](Client& client) {
          client.send_pdu(client.negotiate());
          answers += client.receive_pdu() ? 1 : 0;
          client.send_pdu(client.write(0, pattern(50'000, kSeed)));
          client.send_pdu(client.read(0, 50'000));
          client.send_pdu(client.read(0, 50'000));
          while (client.receive_pdu()) ++answers;
        });
        CHECK(answers <= after - 1);
        rig.until([&] { return rig.program().sessions() == 0; });
      }
    }
  }
}

TEST_CASE("a response cut short reaches the client as a reset, never as an end") {
  ServerScript script;
  script.cut_response_after = 2;
  RigSettings settings = rdma_settings(script);
  settings.options.rdma_io = false;
  Rig rig(settings);
  bool whole = true;
  bool by_reset = false;
  rig.run([&](Client& client) {
    client.greet();
    client.send_pdu(client.read(0, 100'000));
    whole = client.receive_pdu().has_value();
    by_reset = client.ended_by_reset();
  });
  CHECK_FALSE(whole);
  CHECK(by_reset);
}

TEST_CASE("a server that answers with something else than SMB2") {
  for (uint64_t after = 1; after <= 3; ++after) {
    CAPTURE(after);
    ServerScript script;
    script.garbage_after = after;
    Rig rig(rdma_settings(script));
    size_t answers = 0;
    rig.run([&](Client& client) {
      client.send_pdu(client.negotiate());
      client.send_pdu(client.read(0, 50'000));
      client.send_pdu(client.write(0, pattern(50'000, kSeed)));
      while (client.receive_pdu()) ++answers;
    });
    CHECK(answers < after);
    rig.until([&] { return rig.program().sessions() == 0; });
  }
}

TEST_CASE("what is not SMB2 over the direct framing is refused and never reaches the server") {
  const auto refused = [](const Bytes& bytes) {
    Rig rig(rdma_settings());
    bool ended = false;
    rig.run([&](Client& client) {
      client.send(bytes);
      ended = !client.receive_pdu();
    });
    CHECK(rig.server().requests() == 0);
    return ended;
  };
  const auto bytes = [](std::initializer_list<int> values, size_t size) {
    Bytes out;
    for (const int value : values) out.push_back(static_cast<std::byte>(value));
    out.resize(size);
    return out;
  };
  CHECK(refused(bytes({0x83, 0, 0, 1}, 5)));                      // NetBIOS, as a server refuses
  CHECK(refused(bytes({0x81, 0, 2, 0}, 516)));                    // no two names are so long
  CHECK(refused(bytes({0x85, 0, 0, 1}, 5)));                      // a keepalive has no more
  CHECK(refused(bytes({0, 0, 0, 0}, 4)));                         // empty
  CHECK(refused(bytes({0, 0, 0, 64, 0xff, 'S', 'M', 'B'}, 68)));  // SMB1
  CHECK(refused(bytes({0, 0, 0, 10, 0xfe, 'S', 'M', 'B'}, 14)));  // short
}

TEST_CASE("a request longer than the server takes ends the connection, with the request incomplete") {
  RigSettings settings = rdma_settings();
  settings.options.rdma_io = false;
  settings.server.limits.max_fragmented_size = 131'072;
  Rig rig(settings);
  bool ended = false;
  rig.run([&](Client& client) {
    client.greet();
    client.send_pdu(client.write(0, pattern(200'000, kSeed)));
    ended = !client.receive_pdu();
  });
  CHECK(ended);
  CHECK(rig.server().requests() == 1);
}

TEST_CASE("no server: the client is closed at once") {
  RigSettings settings = rdma_settings();
  settings.options.to = {*parse_address("127.0.0.1:1", {})};
  Rig rig(settings);
  const auto began = std::chrono::steady_clock::now();
  bool answered = true;
  rig.run([&](Client& client) {
    client.send_pdu(client.negotiate());
    answered = client.receive_pdu().has_value();
  });
  CHECK_FALSE(answered);
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(5));
  rig.until([&] { return rig.program().sessions() == 0; });
}

TEST_CASE("no RDMA device on the way: the client is closed at once") {
  RigSettings settings;
  settings.options.fabric = FabricKind::verbs;
  Rig rig(settings);
  rig.run([](Client& client) {
    client.send_pdu(client.negotiate());
    CHECK(client.ended_by_reset());
  });
}

TEST_CASE("stop while requests are under way") {
  for (const bool twice : {false, true}) {
    CAPTURE(twice);
    ServerScript script;
    script.hold_until = 1'000'000;  // no answer, ever
    Rig rig(rdma_settings(script));
    size_t answers = 0;
    int stops = 0;
    const auto stop = [&] {
      // Once the requests are there; the second time without waiting for what is under way.
      if (rig.server().requests() < 3 || stops == (twice ? 2 : 1)) return;
      ++stops;
      rig.program().stop();
    };
    rig.run({[&](Client& client) {
              client.send_pdu(client.negotiate());
              client.send_pdu(client.echo());
              client.send_pdu(client.write(0, pattern(2000, kSeed)));
              while (client.receive_pdu()) ++answers;
            }},
            stop);
    CHECK(answers == 0);
    rig.stop();
    CHECK(rig.program().sessions() == 0);
  }
}

TEST_CASE("clients beyond --max-connections are closed, the others served") {
  RigSettings settings = rdma_settings();
  settings.options.max_connections = 1;
  Rig rig(settings);
  bool first = false;
  bool second = true;
  const sockaddr_storage address = rig.client_address();
  rig.run([&](Client& client) {
    client.greet();
    Client other(address);
    second = other.receive_pdu().has_value();
    client.send_pdu(client.echo());
    first = client.receive_pdu().has_value();
  });
  CHECK(first);
  CHECK_FALSE(second);
}

}  // namespace smbdirect::workers::connect::test
