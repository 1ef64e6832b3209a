// SPDX-License-Identifier: MIT
#include "workers/channel/channel_desk.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <sys/random.h>
#include <utility>
#include <vector>

#include "shm/log.h"
#include "workers/channel/introduction.h"
#include "workers/uv_handles.h"

namespace smbdirect::workers {
namespace {

using daemon::ClaimOutcome;
using daemon::MessageType;
namespace proxy = protocol::proxy;

std::optional<proxy::Cookie> make_cookie() {
  proxy::Cookie cookie{};
  if (::getrandom(cookie.data(), cookie.size(), 0) != ssize_t(cookie.size())) return std::nullopt;
  return cookie;
}

shm::Guid as_guid(const proxy::Cookie& cookie) {
  shm::Guid guid{};
  static_assert(sizeof guid == sizeof cookie);
  std::memcpy(guid.data(), cookie.data(), cookie.size());
  return guid;
}

}  // namespace

/// One connection's way to its process: the claim's answer, then either a process that comes to the door, or
/// a channel that is passed on. What was introduced to nobody who attached himself is closed.
class ChannelDesk::Attempt final : public Upstream {
 public:
  Attempt(ChannelDesk& desk, UpstreamRequest request)
      : desk_(desk),
        request_(std::move(request)),
        deadline_(desk.loop_, [this] { finish(std::unexpected(failure_)); }),
        pass_deadline_(desk.loop_, [this] { not_passed_here(); }) {}
  ~Attempt() override { leave(); }

  void start(Done done) override {
    done_ = std::move(done);
    desk_.attempts_[request_.offer] = this;
    deadline_.start(desk_.deadline_ms_);
    if (!request_.claimed) return ask_for_process();
    // The registry spares a way to the supervisor and back where this worker has a channel with the process.
    const uint32_t process = desk_.owner(request_.client_guid);
    if (process == 0 || !desk_.knows(process)) return;
    if (auto theirs = introduce_to_pair(Way::here)) {
      expected_ = process;
      pass_deadline_.start(desk_.pass(process, std::move(*theirs)) ? kPassMs : 0);
    }
  }
  [[nodiscard]] uint32_t process() const override { return process_; }

  void claimed(ClaimOutcome outcome) {
    answer_ = outcome;
    if (way_ != Way::here) act();  // else it is wanted if that fails
  }
  void opened(shm::UniqueFd socket) {
    desk_.by_cookie_.erase(std::exchange(cookie_, {}));
    introduce(Way::door, std::move(socket));
  }
  void refused(int error) {
    failure_ = {"no server process for the client", error};
    finish(std::unexpected(failure_));
  }

 private:
  /// Where the channel's other end is.
  enum class Way : uint8_t {
    none,
    here,        // with a process that has another channel with this worker
    supervisor,  // to be passed on by another worker
    door,        // with a process that was started for it
  };

  void act() {
    forget_channel();
    switch (answer_) {
      case ClaimOutcome::wait:
        return;  // for another answer
      case ClaimOutcome::granted:
        return ask_for_process();
      case ClaimOutcome::owner:
        if (auto theirs = introduce_to_pair(Way::supervisor)) {
          expected_ = desk_.owner(request_.client_guid);
          desk_.send_({.type = MessageType::pass, .offer = request_.offer}, theirs->get());
        }
        return;
    }
  }

  void ask_for_process() {
    const auto cookie = make_cookie();
    if (!cookie) return fail_soon({"a cookie", errno});
    desk_.by_cookie_.erase(std::exchange(cookie_, *cookie));
    desk_.by_cookie_[cookie_] = this;
    desk_.send_({.type = MessageType::want_process, .offer = request_.offer, .guid = as_guid(cookie_)}, -1);
  }

  void introduce(Way way, shm::UniqueFd socket) {
    auto made = Introduction::make(
        desk_.loop_, std::move(socket), request_.introduction, request_.area.get(),
        [this](shm::Result<Introduction::Attached> attached) { on_introduced(std::move(attached)); });
    if (!made) return fail_soon(made.error());
    introduction_ = std::move(*made);
    way_ = way;
  }
  /// The other end of a channel on which everything is said already that its process must know.
  [[nodiscard]] std::optional<shm::UniqueFd> introduce_to_pair(Way way) {
    auto pair = socket_pair();
    if (!pair) {
      fail_soon(pair.error());
      return std::nullopt;
    }
    introduce(way, std::move(pair->first));
    return way_ == way ? std::optional(std::move(pair->second)) : std::nullopt;
  }
  void forget_channel() {
    introduction_.reset();
    way_ = Way::none;
  }

  void on_introduced(shm::Result<Introduction::Attached> attached) {
    // Who else has the socket, on its way to the process, is not whom the client is meant for.
    const bool stranger = attached && way_ != Way::door && expected_ != 0 && attached->process != expected_;
    if (attached && !stranger) {
      process_ = attached->process;
      return finish(std::move(attached->socket));
    }
    switch (way_) {
      case Way::here:
        return not_passed_here();
      case Way::none:
      case Way::supervisor:
        return;  // which knows what to try next, and says it
      case Way::door:
        failure_ = attached.error();
        return finish(std::unexpected(failure_));
    }
  }
  /// The process that this worker knew did not take it.
  void not_passed_here() {
    pass_deadline_.stop();
    act();
  }

  /// From the loop, for nothing may end inside start().
  void fail_soon(shm::Error error) {
    failure_ = std::move(error);
    deadline_.start(0);
  }
  void finish(shm::Result<shm::UniqueFd> result) {
    leave();
    request_.area.reset();  // the session has it mapped
    request_.introduction = {};
    const Done done = std::move(done_);  // the callback may destroy this object
    if (done) done(std::move(result));
  }
  void leave() {
    desk_.by_cookie_.erase(cookie_);
    desk_.attempts_.erase(request_.offer);
    deadline_.stop();
    pass_deadline_.stop();
  }

  ChannelDesk& desk_;
  UpstreamRequest request_;
  Done done_;
  shm::Error failure_{"waiting for a server process to attach itself", ETIMEDOUT};
  Timer deadline_;
  Timer pass_deadline_;
  ClaimOutcome answer_ = ClaimOutcome::wait;
  Way way_ = Way::none;
  uint32_t expected_ = 0;   // the process that a channel is passed to; 0: not known
  proxy::Cookie cookie_{};  // zero: none is known at the door
  std::unique_ptr<Introduction> introduction_;
  uint32_t process_ = 0;
};

ChannelDesk::ChannelDesk(uv_loop_t& loop, Send send, uint32_t deadline_ms)
    : loop_(loop), send_(std::move(send)), deadline_ms_(deadline_ms) {}

ChannelDesk::~ChannelDesk() { assert(attempts_.empty()); }

void ChannelDesk::open_door(shm::UniqueFd listening) {
  if (!listening.valid()) {
    return shm::log::write(shm::log::Level::error,
                           "no descriptor is left for the socket at which server processes open channels");
  }
  door_ = std::make_unique<ChannelDoor>(loop_, std::move(listening),
                                        [this](const proxy::Cookie& cookie, shm::UniqueFd& socket) {
                                          const auto found = by_cookie_.find(cookie);
                                          if (found == by_cookie_.end()) return false;
                                          found->second->opened(std::move(socket));
                                          return true;
                                        });
}

void ChannelDesk::map_registry(const shm::UniqueFd& registry) {
  auto opened = shm::RegistryReader::open(registry.get());
  if (opened) {
    registry_.emplace(std::move(*opened));
    return;
  }
  shm::log::write(shm::log::Level::warning, "every connection asks the supervisor for its process: %s",
                  opened.error().text().c_str());
}

void ChannelDesk::claimed(uint64_t offer, ClaimOutcome outcome) {
  const auto found = attempts_.find(offer);
  if (found != attempts_.end()) found->second->claimed(outcome);
}

void ChannelDesk::refused(uint64_t offer, int error) {
  const auto found = attempts_.find(offer);
  if (found != attempts_.end()) found->second->refused(error);
}

void ChannelDesk::pass_to(uint64_t sequence, uint32_t process, shm::UniqueFd socket) {
  if (socket.valid() && pass(process, std::move(socket))) return;
  send_({.type = MessageType::not_passed, .sequence = sequence}, -1);
}

std::unique_ptr<Upstream> ChannelDesk::request(UpstreamRequest request) {
  return std::make_unique<Attempt>(*this, std::move(request));
}

void ChannelDesk::serving(uint64_t offer, uint32_t process, Pass pass) {
  serving_[offer] = {process, std::move(pass)};
}

bool ChannelDesk::knows(uint32_t process) const {
  return std::ranges::any_of(serving_, [&](const auto& entry) { return entry.second.process == process; });
}

bool ChannelDesk::pass(uint32_t process, shm::UniqueFd socket) {
  std::vector<uint64_t> channels;  // by number: one that passes it may end by that, and its entry here
  for (const auto& [offer, serving] : serving_) {
    if (serving.process == process) channels.push_back(offer);
  }
  return std::ranges::any_of(channels, [&](uint64_t offer) {
    const auto found = serving_.find(offer);
    if (found == serving_.end()) return false;
    const Pass pass = found->second.pass;
    return pass(socket);
  });
}

uint32_t ChannelDesk::owner(const shm::Guid& guid) const {
  const auto entry = registry_ ? registry_->find(guid) : std::nullopt;
  return entry && entry->state == shm::EntryState::live ? entry->peer.pid : 0;
}

}  // namespace smbdirect::workers
