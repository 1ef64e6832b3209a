// SPDX-License-Identifier: MIT
#include "workers/stats/event_ring.h"

#include <algorithm>

namespace smbdirect::workers {

namespace {

struct Words {
  const char* name;
  const char* a;
  const char* b;
};

constexpr auto kWords = std::to_array<Words>({
#define SMBDIRECT_EVENT(name, a, b) Words{#name, a, b},
    SMBDIRECT_EVENTS(SMBDIRECT_EVENT)
#undef SMBDIRECT_EVENT
});

}  // namespace

std::string EventRing::text(uint64_t now_ms) const {
  std::string out;
  const uint64_t count = std::min<uint64_t>(next_, kEvents);
  for (uint64_t i = next_ - count; i < next_; ++i) {
    const Event& event = events_[i % kEvents];
    const Words& words = kWords[static_cast<size_t>(event.kind)];
    out += "  -" + std::to_string(now_ms - std::min(now_ms, event.at_ms)) + "ms " + words.name + " " +
           words.a + "=" + std::to_string(event.a) + " " + words.b + "=" + std::to_string(event.b) + "\n";
  }
  return out;
}

std::string EventRing::json(uint64_t now_ms) const {
  // The names are ours and need no escaping.
  std::string out = "[";
  const uint64_t count = std::min<uint64_t>(next_, kEvents);
  for (uint64_t i = next_ - count; i < next_; ++i) {
    const Event& event = events_[i % kEvents];
    const Words& words = kWords[static_cast<size_t>(event.kind)];
    if (out.size() > 1) out += ',';
    out += R"({"ago_ms":)" + std::to_string(now_ms - std::min(now_ms, event.at_ms)) + R"(,"event":")" +
           words.name + R"(",")" + words.a + "\":" + std::to_string(event.a) + ",\"" + words.b +
           "\":" + std::to_string(event.b) + "}";
  }
  return out + "]";
}

}  // namespace smbdirect::workers
