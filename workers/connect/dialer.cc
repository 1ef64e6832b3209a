// SPDX-License-Identifier: MIT
#include "workers/connect/dialer.h"

#include <algorithm>
#include <cstring>
#include <sys/resource.h>
#include <utility>

namespace smbdirect::workers::connect {

namespace {

/// Memory that a device may reach is locked, and some devices count it against this limit for root too. What
/// cannot be raised shows when memory is registered.
void raise_locked_memory_limit() {
  const rlimit unlimited{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  if (::setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0) return;
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_MEMLOCK, &limit);
}

constexpr FabricRow kFabrics[] = {
    {FabricKind::iwarp, "iwarp", "iWARP in userspace, over TCP", 5445},
    {FabricKind::verbs, "verbs", "an RDMA device", 445},
};

}  // namespace

const FabricRow& fabric_row(FabricKind kind) {
  for (const FabricRow& row : kFabrics) {
    if (row.kind == kind) return row;
  }
  return kFabrics[0];
}

std::optional<FabricKind> fabric_from_name(std::string_view name) {
  for (const FabricRow& row : kFabrics) {
    if (name == row.name) return row.kind;
  }
  return std::nullopt;
}

/// What is done once, outside the time that a connection may take.
shm::Result<> Dialer::prepare() {
  if (target_.fabric != FabricKind::verbs || verbs_ != nullptr) return {};
  raise_locked_memory_limit();
  auto opened = fabric::verbs::Connector::open(loop_, arena_);
  uv_update_time(&loop_);
  if (!opened) return std::unexpected(opened.error());
  verbs_ = std::move(*opened);
  return {};
}

shm::Result<std::unique_ptr<fabric::Endpoint>> Dialer::dial(const sockaddr_storage& to,
                                                            fabric::Handler& handler) {
  switch (target_.fabric) {
    case FabricKind::iwarp:
      break;
    case FabricKind::verbs:
      return verbs_->connect(to, target_.source, target_.verbs, handler);
  }
  return fabric::iwarp::connect(loop_, to, target_.source, target_.iwarp, handler);
}

std::vector<sockaddr_storage> Dialer::addresses() const {
  std::vector<sockaddr_storage> all = target_.to;
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(first_);
  std::rotate(all.begin(), first, first + 1);
  return all;
}

void Dialer::worked(const sockaddr_storage& address) {
  for (size_t i = 0; i < target_.to.size(); ++i) {
    if (std::memcmp(&target_.to[i], &address, sizeof address) == 0) first_ = i;
  }
}

shm::Result<> Dialer::start(Transport& transport, const sockaddr_storage& to) {
  if (const auto ready = prepare(); !ready) return ready;
  std::optional<shm::Error> error;
  const bool started = transport.start([&](fabric::Handler& handler) -> std::unique_ptr<fabric::Endpoint> {
    auto endpoint = dial(to, handler);
    if (endpoint) return std::move(*endpoint);
    error = endpoint.error();
    return nullptr;
  });
  if (started) return {};
  return std::unexpected(error.value_or(shm::Error{"out of memory for the connection's buffers", 0}));
}

}  // namespace smbdirect::workers::connect
