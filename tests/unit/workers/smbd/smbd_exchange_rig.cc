// SPDX-License-Identifier: MIT
#include "tests/unit/workers/smbd/smbd_exchange_rig.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace smbdirect::workers::session_test {

SmbdExchangeRig::SmbdExchangeRig(Setup setup, bool direct) : ExchangeHost(patient(setup)) {
  begin(std::make_unique<SmbdExchange>(
      context(), none_, ModuleUse{.link = &links, .area = &areas, .direct = direct ? &directs : nullptr}));
}

SmbdExchangeRig::~SmbdExchangeRig() {
  end([this] {
    busy.reset();
    threads.reset();
  });
}

SmbdExchangeRig::Setup SmbdExchangeRig::limited_to(uint64_t bytes, uint16_t receives) {
  Setup setup;
  setup.limits.receive_credit_max = receives;
  setup.admission = bytes + uint64_t{receives} * 8192;
  setup.payload = Admission::hard_limit(bytes);
  return setup;
}

void SmbdExchangeRig::connect() {
  from_client(smb2_test::negotiate_request({0x0302}));
  settle();
  REQUIRE(negotiate == smb2_test::negotiate_request({0x0302}));
  shm::UniqueFd theirs;
  std::tie(upstream, theirs) = test::socket_pair();
  smbd = SmbdEnd(std::move(theirs));
  settle();
  REQUIRE(smbd.heard == Messages{negotiate});
}

void SmbdExchangeRig::open(const Bytes& agreed_to) {
  connect();
  smbd.answer(agreed_to);
  settle();
  from_client(smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1}, 24));
  settle();
  Bytes success =
      smb2_test::plain(smb2_test::kSessionSetup, {.message_id = 1, .flags = smb2_test::kResponse}, 8);
  smb2_test::put(success, 64, 9, 2);
  smbd.answer(success);
  settle();
  REQUIRE(client_side.messages.size() == 2);
  REQUIRE(context().set_up);
  REQUIRE(agreed == 1);
  smbd.heard.clear();
  client_side = {};
  copied_before_ = server->own_counters().copied_bytes;
}

void SmbdExchangeRig::fragment(std::span<const std::byte> bytes, uint64_t total, bool first, bool last) {
  SlabRef buffer = own_receives_.acquire_forced(payload);
  std::ranges::copy(bytes, buffer.bytes().begin());
  exchange->on_fragment({.data = buffer.bytes().first(bytes.size()),
                         .buffer = &buffer,
                         .total = total,
                         .first = first,
                         .last = last});
}

shm::AreaState SmbdExchangeRig::shown_without_areas() { return SmbdExchange(context(), none_).area_state(); }

SmbdExchangeRig::Setup SmbdExchangeRig::patient(Setup setup) {
  setup.soon_ms = 10;
  return setup;
}

void SmbdExchangeRig::on_negotiate(const smb2::NegotiateRequest&, std::span<const std::byte> pdu) {
  negotiate.assign(pdu.begin(), pdu.end());
}

}  // namespace smbdirect::workers::session_test
