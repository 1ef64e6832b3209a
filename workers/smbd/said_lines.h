// SPDX-License-Identifier: MIT
// Lines of the log about one thing of a connection: once for each change, and seldom where it changes all the
// time, so that neither a client that connects to trees again and again fills a log, nor a module that lies.
// Owned by who says them; one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "shm/base/connection_id.h"
#include "shm/base/log.h"

namespace smbdirect::workers {

class SaidLines {
 public:
  /// topic: as the line begins after the connection's number; a constant.
  explicit SaidLines(const char* topic) : topic_(topic) {}

  /// "connection 7: TOPIC: KIND what".
  void say(shm::ConnectionId connection, uint64_t now_ms, const char* kind, const std::string& what) {
    std::string line = kind + what;
    if (!said_) said_ = std::make_unique<Said>();
    if (said_->last == line) return;
    said_->last = std::move(line);
    const auto held_back = said_->lines.pass(kind, now_ms);
    if (!held_back) return;
    const std::string more =
        *held_back > 0 ? " (" + std::to_string(*held_back) + " such lines held back)" : std::string();
    shm::log::write(shm::log::Level::info, "connection %s: %s: %s%s",
                    shm::connection_text(connection).c_str(), topic_, said_->last.c_str(), more.c_str());
  }

 private:
  struct Said {
    std::string last;                      // the same is not said twice
    shm::log::RateLimit lines{10'000, 8};  // of each kind
  };

  const char* topic_;
  std::unique_ptr<Said> said_;  // of most connections nothing is
};

}  // namespace smbdirect::workers
