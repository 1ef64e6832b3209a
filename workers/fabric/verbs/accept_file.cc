// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/accept_file.h"

#include "shm/base/log.h"

namespace smbdirect::workers::fabric::verbs {

namespace {

namespace log = shm::log;

// The rest waits for the loop's next turn, so that events do not starve other work.
constexpr int kEventsPerTurn = 64;

constexpr uint64_t cookie_of(size_t index, uint32_t generation) {
  return uint64_t{generation} << 32U | static_cast<uint64_t>(index);
}

}  // namespace

AcceptFile::AcceptFile(uv_loop_t& loop, daemon::RdmaCm cm)
    : loop_(loop), cm_(loop, std::move(cm), [this](int, int status) { read_events(status); }) {
  cm_.want(UV_READABLE);
}

uint64_t AcceptFile::add(Link& link) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(entries_.size()));
    entries_.emplace_back();
    free_.reserve(entries_.capacity());
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  Entry& entry = entries_[index];
  entry.link = &link;
  if (++entry.generation == 0) entry.generation = 1;  // the kernel takes 0 for "no cookie"
  return cookie_of(index, entry.generation);
}

void AcceptFile::remove(uint64_t cookie) {
  if (find(cookie) == nullptr) return;
  const auto index = static_cast<uint32_t>(cookie);
  entries_[index].link = nullptr;
  free_.push_back(index);
}

AcceptFile::Link* AcceptFile::find(uint64_t cookie) {
  const auto index = static_cast<size_t>(cookie & UINT32_MAX);
  if (index >= entries_.size()) return nullptr;
  const Entry& entry = entries_[index];
  return entry.generation == cookie >> 32U ? entry.link : nullptr;
}

void AcceptFile::read_events(int status) {
  if (status < 0) return lost({"watch the RDMA connection manager", -status});
  for (int i = 0; i < kEventsPerTurn; ++i) {
    const auto event = cm_.owner().next_event();
    if (!event) {
      lost(event.error());
      return;
    }
    if (!*event) return;
    if (Link* link = find((*event)->cookie); link != nullptr) {
      link->on_event(**event);
    } else {
      log::write(log::Level::debug, "RDMA connection manager: %s of id %u, which is gone already",
                 std::string(daemon::cm_event_name((*event)->type)).c_str(), (*event)->id);
    }
  }
}

void AcceptFile::lost(const shm::Error& error) {
  log::write(log::Level::error, "%s; all connections over RDMA devices of this worker end",
             error.text().c_str());
  cm_.want(0);
  // By index: a link may remove others, and new ones may come.
  for (size_t index = 0; index < entries_.size(); ++index) {
    if (Link* link = entries_[index].link; link != nullptr) link->on_file_lost(error.text());
  }
}

}  // namespace smbdirect::workers::fabric::verbs
