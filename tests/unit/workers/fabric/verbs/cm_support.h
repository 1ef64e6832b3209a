// SPDX-License-Identifier: MIT
// What the links' tests share: a loop to run, an observer that writes down what it is told, and a kernel
// whose rdma_cm file answers as the test wants.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <uv.h>

#include "shm/base/socket_address.h"
#include "workers/fabric/verbs/cm_link.h"

namespace verbs_test {

namespace verbs = smbdirect::workers::fabric::verbs;
namespace shm = smbdirect::shm;
using smbdirect::workers::fabric::CloseCause;

class Loop {
 public:
  Loop() { REQUIRE(uv_loop_init(&loop_) == 0); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() {
    uv_run(&loop_, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop_) == 0);
  }
  operator uv_loop_t&() { return loop_; }
  /// Everything that is due now.
  void turn() {
    for (int i = 0; i < 4; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
  }

 private:
  uv_loop_t loop_{};
};

class Recorder final : public verbs::CmLink::Observer {
 public:
  void on_resolved(const verbs::PeerLimits& peer) override { note("resolved" + text(peer)); }
  void on_accepted(const verbs::PeerLimits& peer) override { note("accepted" + text(peer)); }
  void on_established() override { note("established"); }
  void on_disconnected() override { note("disconnected"); }
  void on_failed(CloseCause cause, std::string detail) override {
    CHECK(cause == CloseCause::setup_failed);
    why = std::move(detail);
    CHECK(why.find('\n') == std::string::npos);
    note("failed");
  }
  void on_device_removed() override { note("device removed"); }

  std::vector<std::string> told;
  std::string why;
  std::function<void(const std::string&)> also;  // what the endpoint does about it

 private:
  static std::string text(const verbs::PeerLimits& peer) {
    return " " + std::to_string(peer.initiator_depth) + "/" + std::to_string(peer.responder_resources);
  }
  void note(const std::string& what) {
    told.push_back(what);
    if (also) also(what);
  }
};

using Told = std::vector<std::string>;

}  // namespace verbs_test
