// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/handoff_connector.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <linux/capability.h>
#include <optional>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "shm/base/log.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr uint16_t kNetbiosPort = 139;
constexpr int kReapPollMs = 10;

/// An smbd can do no more than we may: it must read every user's files and become every user.
bool may_be_smbd() {
  constexpr std::array<int, 6> kNeeded{CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,
                                       CAP_SETGID, CAP_SETUID,       CAP_SYS_ADMIN};
  return geteuid() == 0 &&
         std::ranges::all_of(kNeeded, [](int capability) { return prctl(PR_CAPBSET_READ, capability) == 1; });
}

shm::Result<> make_directories(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0755) != 0 && errno != EEXIST)
      return shm::fail("make the directory " + part, errno);
    if (slash == path.npos) return {};
  }
}

std::unexpected<shm::Error> unusable(const std::string& why) {
  return shm::fail("upstream mode \"handoff\" cannot be used: " + why +
                   ". Modes \"transparent\" and \"connect\" do not start smbd");
}

bool is_link_local(const shm::Host& host) { return host[0] == 0xfe && (host[1] & 0xc0) == 0x80; }

sockaddr_storage native(const sockaddr_storage& address) {
  return shm::address_from_text(shm::host_text(shm::host_of(address)), shm::port_of(address))
      .value_or(address);
}

}  // namespace

struct HandoffConnector::Pending {
  Pending(shm::Loop& loop, std::function<void()> overdue) : deadline(loop, std::move(overdue)) {}

  [[nodiscard]] std::string what() const {
    return "hand a connection of " + shm::host_text(shm::host_of(client)) + " to an smbd";
  }

  sockaddr_storage client{};
  sockaddr_storage server{};
  Done done;
  std::optional<shm::Error> failed;  // at the start; told from the loop
  shm::Timer deadline;
};

HandoffConnector::HandoffConnector(shm::Loop& loop, Options options)
    : loop_(loop),
      options_(std::move(options)),
      command_{options_.smbd, options_.samba.smb_conf, options_.run_directory},
      main_(loop, options_.pid_directory, [this] { end_all("the listening smbd has ended"); }),
      kill_timer_(loop, [this] {
        for (const uint64_t number : std::exchange(ending_, {})) {
          if (const auto found = spawned_.find(number); found != spawned_.end())
            found->second->signal(SIGKILL);
        }
      }) {}

shm::Result<std::unique_ptr<HandoffConnector>> HandoffConnector::set_up(shm::Loop& loop, Options options) {
  if (!may_be_smbd()) {
    return unusable(
        "it starts smbd, which must run as root with its usual capabilities; this process does not, or its "
        "unit removes them (CapabilityBoundingSet; ProtectHome and ProtectSystem would also hide files "
        "from smbd)");
  }
  if (access(options.smbd.c_str(), X_OK) != 0) {
    return unusable("'" + options.smbd + "' cannot be executed: " + std::strerror(errno));
  }
  if (options.pid_directory.empty()) {
    auto directory = options.samba.pid_directory();
    if (!directory) return unusable(directory.error().text());
    options.pid_directory = std::move(*directory);
  }
  if (options.pid_directory == options.run_directory) {
    return unusable("the directory " + options.run_directory +
                    " is also the listening smbd's pid directory; choose another /run_directory");
  }
  if (auto checked = options.samba.check_durable_handles(); !checked) return std::unexpected(checked.error());
  if (auto made = make_directories(options.run_directory); !made) return unusable(made.error().text());
  std::unique_ptr<HandoffConnector> handoff(new HandoffConnector(loop, std::move(options)));
  auto thread = NetnsThread::start(loop, [self = handoff.get()](uint64_t number, shm::Result<TcpPair> pair) {
    self->pair_made(number, std::move(pair));
  });
  if (!thread) return unusable(thread.error().text());
  handoff->thread_ = std::move(*thread);
  return handoff;
}

HandoffConnector::~HandoffConnector() {
  thread_.reset();
  pending_.clear();
  end_all("smbdirectd ends");
  // No loop runs here any more.
  for (uint32_t waited = 0; waited < options_.stop_grace_ms; waited += kReapPollMs) {
    std::erase_if(spawned_, [](const auto& entry) { return entry.second->try_reap(); });
    if (spawned_.empty()) return;
    poll(nullptr, 0, kReapPollMs);
  }
}

uint64_t HandoffConnector::open(const sockaddr_storage& client, const sockaddr_storage& server, Done done) {
  const uint64_t number = ++last_number_;
  auto pending = std::make_unique<Pending>(loop_, [this, number] {
    const Pending& overdue = *pending_.at(number);
    if (overdue.failed) return finish(number, std::unexpected(*overdue.failed));
    finish(number, shm::fail(overdue.what(), ETIMEDOUT));
  });
  pending->client = native(client);
  pending->server = native(server);
  pending->done = std::move(done);
  if (auto checked = check(*pending); !checked) {
    pending->failed = std::move(checked.error());
  } else {
    thread_->request(number, pending->client, pending->server);
  }
  Pending& kept = *(pending_[number] = std::move(pending));
  kept.deadline.start(kept.failed ? 0 : options_.deadline_ms);
  return number;
}

void HandoffConnector::cancel(uint64_t number) { pending_.erase(number); }

shm::Result<> HandoffConnector::check(const Pending& pending) {
  const std::string what = pending.what() + ": ";
  const bool v6 = pending.client.ss_family == AF_INET6;
  if (v6 != (pending.server.ss_family == AF_INET6)) {
    return shm::fail(what + "client and server need addresses of one family, and the server's is " +
                     shm::address_text(pending.server) + " (/upstream/address)");
  }
  if (v6 && !thread_->no_ipv6().empty()) return shm::fail(what + thread_->no_ipv6());
  if (v6 && (is_link_local(shm::host_of(pending.client)) || is_link_local(shm::host_of(pending.server)))) {
    return shm::fail(what +
                     "a link-local address is valid on its own link only; let the client use a global IPv6 "
                     "address or IPv4");
  }
  if (shm::port_of(pending.server) == kNetbiosPort)
    return shm::fail(what + "smbd expects NetBIOS on port 139; set /upstream/port to another port");
  if (spawned_.size() + pending_.size() >= options_.max_spawned) {
    return shm::fail(what + std::to_string(options_.max_spawned) +
                     " smbd processes run or start already, the most that /upstream/handoff/processes "
                     "allows");
  }
  if (const auto running = main_.find(); !running) return shm::fail(what + running.error().text());
  return {};
}

void HandoffConnector::pair_made(uint64_t number, shm::Result<TcpPair> pair) {
  const auto found = pending_.find(number);
  if (found == pending_.end()) return;  // cancelled or overdue: the pair closes
  const Pending& pending = *found->second;
  if (!pair) return finish(number, std::unexpected(pair.error()));
  // smbd may have ended meanwhile, after the running processes were told to end.
  if (const auto running = main_.find(); !running) {
    return finish(number, shm::fail(pending.what() + ": " + running.error().text()));
  }
  if (auto carried = carry(number, std::move(pair->server), shm::host_text(shm::host_of(pending.client)));
      !carried) {
    return finish(number, shm::fail(pending.what() + ": " + carried.error().text()));
  }
  finish(number, std::move(pair->client));
}

shm::Result<> HandoffConnector::carry(uint64_t number, shm::UniqueFd stream, const std::string& client) {
  auto spawned = SpawnedSmbd::start(loop_, command_, std::move(stream), client,
                                    [this, number] { spawned_.erase(number); });
  if (!spawned) return std::unexpected(spawned.error());
  spawned_[number] = std::move(*spawned);
  return {};
}

void HandoffConnector::finish(uint64_t number, shm::Result<shm::UniqueFd> result) {
  // Taken out first: the callback may open or cancel others.
  const auto pending = std::move(pending_.extract(number).mapped());
  pending->deadline.stop();
  pending->done(std::move(result));
}

void HandoffConnector::end_all(const char* why) {
  if (spawned_.empty()) return;
  log::write(log::Level::notice, "%s: ending the %zu smbd processes of mode \"handoff\"", why,
             spawned_.size());
  for (const auto& [number, spawned] : spawned_) {
    spawned->signal(SIGTERM);
    ending_.push_back(number);
  }
  kill_timer_.start(options_.stop_grace_ms);
}

}  // namespace smbdirect::daemon
