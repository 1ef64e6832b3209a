// SPDX-License-Identifier: MIT
// A connection manager for tests: links of both sides that do what their header says, one step at a time when
// the test says so. Owned by the test; one thread.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fake_verbs.h"
#include "workers/fabric/verbs/cm_link.h"

namespace smbdirect::test {

using workers::fabric::verbs::CmLink;
using workers::fabric::verbs::DevicePort;
using workers::fabric::verbs::OurLimits;
using workers::fabric::verbs::PeerLimits;

class FakeLink;

/// What is known of one side, also after its link is gone.
struct LinkEnd {
  FakeLink* link{};  // null: destroyed
  CmLink::Observer* observer{};
  LinkEnd* peer{};
  bool accepting{};
  uint32_t qp_num{};
  bool answered{};   // accept() or connect() was called
  bool connected{};  // and nobody has hung up
  int disconnects{};
  int qps_when_destroyed{-1};
  OurLimits limits;
};

class FakeCm {
 public:
  FakeCm(FakeVerbs& device_library, bool is_iwarp) : fake(device_library), iwarp(is_iwarp) {}

  /// A pair of links that find each other.
  std::pair<std::unique_ptr<CmLink>, std::unique_ptr<CmLink>> make_pair();
  [[nodiscard]] LinkEnd& accepting(size_t pair = 0) { return *ends_[2 * pair]; }
  [[nodiscard]] LinkEnd& connecting(size_t pair = 0) { return *ends_[2 * pair + 1]; }

  /// Delivers all that is due. True when something was.
  bool run();
  void later(std::function<void()> what) { due_.push_back(std::move(what)); }
  /// The observer hears it, unless its link is gone by then.
  void tell(LinkEnd& end, std::function<void(CmLink::Observer&)> what);
  void hang_up(LinkEnd& from);

  FakeVerbs& fake;
  bool iwarp;
  DevicePort device{FakeVerbs::kGuid, 1};
  PeerLimits from_client{.initiator_depth = 16, .responder_resources = 0};  // as the accepting side sees it
  PeerLimits from_server{};
  bool hold_established = false;  // the accepting side is not told
  bool answers_disconnect = true;
  bool device_in_doubt = false;
  std::vector<ibv_qp_state> states;

 private:
  std::vector<std::unique_ptr<LinkEnd>> ends_;
  std::deque<std::function<void()>> due_;
};

class FakeLink final : public CmLink {
 public:
  FakeLink(FakeCm& cm, LinkEnd& end) : cm_(cm), end_(end) { end.link = this; }
  ~FakeLink() override;

  void start(Observer& observer) override;
  [[nodiscard]] const DevicePort& device() const override { return cm_.device; }
  [[nodiscard]] workers::fabric::verbs::CmLink::QpAttributes attributes_of(ibv_qp_state state) const;
  [[nodiscard]] shm::Result<QpAttributes> qp_attributes(ibv_qp_state state) override;
  [[nodiscard]] shm::Result<> accept(uint32_t qp_num, const OurLimits& limits) override;
  [[nodiscard]] shm::Result<> connect(uint32_t qp_num, const OurLimits& limits) override;
  [[nodiscard]] shm::Result<> establish() override;
  [[nodiscard]] shm::Result<> disconnect() override;
  [[nodiscard]] bool device_in_doubt() override { return cm_.device_in_doubt; }
  [[nodiscard]] std::string description() const override { return "here <- there"; }

 private:
  FakeCm& cm_;
  LinkEnd& end_;
};

}  // namespace smbdirect::test
