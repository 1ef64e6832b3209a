// SPDX-License-Identifier: MIT
// An exchange with smbd in use: a client over a fabric in memory, the exchange on its transport, and smbd at
// the other end of a socket. Owned by the test.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "tests/unit/unix_sockets.h"
#include "tests/unit/workers/session/exchange_host.h"
#include "tests/unit/workers/session/smbd_end.h"
#include "workers/smbd/smbd_exchange.h"

namespace smbdirect::workers::session_test {

class SmbdExchangeRig : public ExchangeHost {
 public:
  /// A stall ends when it has lasted for some time: settle() waits for no more than the transports' short
  /// pauses.
  /// direct: the exchange has direct I/O too.
  explicit SmbdExchangeRig(Setup setup = {}, bool direct = false);
  virtual ~SmbdExchangeRig();
  /// So many bytes for replies and what waits, as Session would have it: beside the receives.
  static Setup limited_to(uint64_t bytes, uint16_t receives = 32);

  /// NEGOTIATE, and smbd takes the connection; nothing is answered yet.
  void connect();
  /// ... and a session, all as it should be.
  void open(const Bytes& agreed_to = smb2_test::negotiate_response(0x0302));
  /// Bytes copied since open().
  [[nodiscard]] uint64_t copied() const { return server->counters().copied_bytes - copied_before_; }
  /// The request has a buffer of its own, as the fabric would deliver it: `bytes` of a message of `total`.
  void fragment(std::span<const std::byte> bytes, uint64_t total, bool first, bool last);

  /// Of an exchange of a pool that has them switched off.
  [[nodiscard]] shm::AreaState shown_without_areas();

  /// Who asks for the link to a module is told nothing, unless the test does it.
  Budget area_budget{kPlenty};
  size_t asked = 0, cannot_ask = 0;  // the first so many times
  AreaResources areas{
      .loop = loop(), .budget = area_budget, .threshold = 65536, .bytes = 1 << 20, .huge_pages = false};
  Budget descriptors{1000};
  Budget mapped{uint64_t{1} << 30};
  std::function<void()> closes;  // before each, in the closer's thread; there is one if the test starts it
  FileCloser closer{[this](FileCloser::File& file) {
    if (closes) closes();
    FileCloser::let_go(file);
  }};
  LinkResources links{.loop = loop(),
                      .ask = [this](shm::ConnectionId, int) { return ++asked > cannot_ask; },
                      .closer = &closer};
  /// A test that keeps all of them has work under way that does not end.
  std::optional<FileThreads> threads{std::in_place, loop(), 32, nullptr, 1'000'000'000};
  /// Times that it has looked at its clock, which it does only when something is expected and until that has
  /// come. A millisecond passes each time: it never learns to stay awake.
  uint64_t expectations = 0;
  std::optional<shm::BusyPoll> busy{
      std::in_place, loop(), 100,
      shm::BusyPoll::Senses{.clock = [this] { return ++expectations * 1'000'000; },
                            .processors_suffice = [] { return true; }}};
  DirectResources directs{.descriptors = descriptors,
                          .files = 256,
                          .threads = *threads,
                          .closer = closer,
                          .mapped = mapped,
                          .loop = loop(),
                          .busy = *busy};
  SmbdEnd smbd;
  Bytes negotiate;
  size_t agreed = 0;

 private:
  static Setup patient(Setup setup);
  bool move_far_end() override { return smbd.move(); }

  void on_negotiate(const smb2::NegotiateRequest&, std::span<const std::byte> pdu) override;
  void on_agreed(const smb2::NegotiateResponse&) override { ++agreed; }
  void on_attached(uint32_t) override { FAIL("nobody is attached to smbd"); }
  void on_session_set_up() override { context().set_up = true; }
  void on_queued() override { FAIL("smbd is told nothing but the client's requests"); }

  const OpenUpstream none_;  // smbd's end of the socket is there without it
  Arena own_arena_;
  SlabPool own_receives_{own_arena_, 8192};
  uint64_t copied_before_ = 0;
};

}  // namespace smbdirect::workers::session_test
