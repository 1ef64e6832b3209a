// SPDX-License-Identifier: MIT
// A plain request goes to smbd from the buffers it came in: as it is, while it comes, and not copied.
#include <algorithm>
#include <random>

#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using smb2_test::pattern;

namespace {

constexpr uint64_t kPrefix = smb2::kPrefixBytes;

Bytes write_of(size_t size, uint64_t id) {
  return smb2_test::write_request({.message_id = id}, {.data = pattern(size, static_cast<uint32_t>(id))});
}

}  // namespace

TEST_CASE("a large plain request reaches smbd byte for byte, in fragments of any size, and is not copied") {
  for (const uint32_t fragment : {128U, 136U, 137U, 512U, 1364U, 8192U}) {
    CAPTURE(fragment);
    SmbdExchangeRig::Setup setup;
    setup.limits.max_send_size = setup.limits.max_receive_size = fragment;
    SmbdExchangeRig rig(setup);
    rig.open();
    const Messages requests{write_of(1'000'000, 2), write_of(0, 3), write_of(70'001, 4)};
    for (const Bytes& request : requests) rig.from_client(request);
    rig.settle();
    CHECK(rig.smbd.heard == requests);
    // Where its beginning takes more than one fragment, that is put together; nothing else.
    CHECK(rig.copied() <= (fragment < kPrefix + 24 ? 3 * kPrefix : 0));
    CHECK_FALSE(rig.exchange->unfinished());
    CHECK(rig.held() == 0);  // every buffer is back
  }
}

TEST_CASE("a request may be cut anywhere, and have fragments of nothing") {
  const Bytes request = write_of(60, 2);
  const std::span<const std::byte> all(request);
  SmbdExchangeRig rig;
  rig.open();
  uint64_t id = 2;
  const auto next = [&] {
    Bytes renamed = request;
    smb2_test::put(renamed, 24, id++, 8);
    return renamed;
  };
  Messages expected;
  for (size_t cut = 0; cut <= request.size(); ++cut) {
    const Bytes pdu = next();
    rig.fragment(std::span(pdu).first(cut), pdu.size(), true, false);
    rig.settle();
    rig.fragment(std::span(pdu).subspan(cut), pdu.size(), false, true);
    expected.push_back(pdu);
  }
  const Bytes single = next();
  for (size_t i = 0; i < single.size(); ++i) {
    rig.fragment(std::span(single).subspan(i, 1), single.size(), i == 0, false);
    rig.fragment({}, single.size(), false, i + 1 == single.size());
  }
  expected.push_back(single);
  rig.settle();
  CHECK(rig.smbd.heard == expected);
  CHECK(rig.copied() <= kPrefix * (kPrefix + 2));
}

TEST_CASE("the beginning of a request is with smbd before its end has come") {
  SmbdExchangeRig rig;
  rig.open();
  const Bytes request = write_of(100'000, 2);
  rig.begin(request.size());
  rig.append(std::span(request).first(50'000));
  rig.settle();
  CHECK(rig.smbd.part().size() > 40'000);
  CHECK(std::ranges::equal(rig.smbd.part().subspan(4), std::span(request).first(rig.smbd.part().size() - 4)));
  CHECK(rig.exchange->unfinished());
  rig.append(std::span(request).subspan(50'000));
  rig.settle();
  CHECK(rig.smbd.heard == Messages{request});
  CHECK_FALSE(rig.exchange->unfinished());
}

TEST_CASE("an smbd that reads nothing keeps the buffers, and its client waits; nothing is lost") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(8u << 20));
  rig.open();
  rig.smbd.reads = false;
  Messages requests;
  for (uint64_t id = 2; id < 10; ++id) rig.from_client(requests.emplace_back(write_of(300'000, id)));
  rig.settle();
  CHECK(rig.server->engine().credits().posted == 0);  // each receive is on its way to smbd
  CHECK_FALSE(rig.client->idle());
  CHECK(rig.exchange->unfinished());
  rig.smbd.reads = true;
  rig.settle();
  CHECK(rig.smbd.heard == requests);
  CHECK(rig.client->idle());
}

TEST_CASE("an encrypted request passes as any other") {
  SmbdExchangeRig rig;
  rig.open();
  Bytes request = pattern(200'000, 5);
  smb2_test::put(request, 0, 0x424D53FD, 4);
  rig.from_client(request);
  rig.settle();
  CHECK(rig.smbd.heard == Messages{request});
  CHECK(rig.copied() == 0);
}

TEST_CASE("before smbd has let the client in, a request has no more than a small size, and no RDMA") {
  SmbdExchangeRig rig;
  rig.connect();
  SUBCASE("too long") {
    rig.begin(WorkerMemory::kBeforeSession + 1);
    rig.append(write_of(20'000, 2));
    rig.settle();
    CHECK(rig.broken == "the client sent a request of 1048577 bytes before it had a session");
  }
  SUBCASE("an RDMA-channel READ") {
    rig.from_client(
        smb2_test::read_request({.message_id = 2}, {.length = 10, .channel = 1, .memory = {{1, 2, 10}}}));
    rig.settle();
    CHECK(rig.broken == "the client sent an RDMA channel READ or WRITE before it had a session");
  }
  CHECK(rig.smbd.heard.size() == 1);
  CHECK(rig.smbd.part().empty());
}
