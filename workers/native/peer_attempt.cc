// SPDX-License-Identifier: MIT
#include "workers/native/peer_attempt.h"

#include <cerrno>
#include <cstring>
#include <sys/random.h>
#include <utility>
#include <vector>

namespace smbdirect::workers {
namespace {

using daemon::ClaimOutcome;
namespace message = daemon::message;
namespace proxy = protocol::proxy;

std::optional<proxy::Cookie> make_cookie() {
  proxy::Cookie cookie{};
  if (::getrandom(cookie.bytes.data(), cookie.bytes.size(), 0) != ssize_t(cookie.bytes.size()))
    return std::nullopt;
  return cookie;
}

}  // namespace

PeerFinder::Attempt::Attempt(PeerFinder& finder, PeerRequest request)
    : finder_(finder),
      request_(std::move(request)),
      failure_{"waiting for a server process to attach to the channel", ETIMEDOUT},
      deadline_(finder.loop_, [this] { finish(std::unexpected(failure_)); }),
      pass_deadline_(finder.loop_, [this] { not_passed_here(); }) {}

void PeerFinder::Attempt::start(Done done) {
  done_ = std::move(done);
  finder_.attempts_[request_.client.connection] = this;
  deadline_.start(finder_.deadline_ms_);
  if (!request_.client.claimed) return ask_for_process();
  // The registry spares a way to the supervisor and back where this worker has a channel with the process.
  const uint32_t process = finder_.owner(request_.client.client_guid);
  if (process == 0 || !finder_.knows(process)) return;
  if (auto theirs = introduce_to_pair(Way::here)) {
    expected_ = process;
    pass_deadline_.start(finder_.pass(process, std::move(*theirs)) ? kPassMs : 0);
  }
}

void PeerFinder::Attempt::claimed(ClaimOutcome outcome) {
  answer_ = outcome;
  if (way_ != Way::here) act();  // else it is wanted if that fails
}

void PeerFinder::Attempt::opened(shm::UniqueFd socket) {
  finder_.by_cookie_.erase(std::exchange(cookie_, {}));
  introduce(Way::door, std::move(socket));
}

void PeerFinder::Attempt::refused(int error) {
  failure_ = {"no server process for the client", error};
  finish(std::unexpected(failure_));
}

void PeerFinder::Attempt::act() {
  forget_channel();
  switch (answer_) {
    case ClaimOutcome::wait:
      return;  // for another answer
    case ClaimOutcome::granted:
      return ask_for_process();
    case ClaimOutcome::owner:
      if (auto theirs = introduce_to_pair(Way::supervisor)) {
        expected_ = finder_.owner(request_.client.client_guid);
        finder_.send_(message::Pass{{request_.client.connection}, {}}, theirs->get());
      }
      return;
  }
}

void PeerFinder::Attempt::ask_for_process() {
  const auto cookie = make_cookie();
  if (!cookie) return fail_soon({"make a random cookie for the channel", errno});
  finder_.by_cookie_.erase(std::exchange(cookie_, *cookie));
  finder_.by_cookie_[cookie_] = this;
  finder_.send_(message::WantProcess{{request_.client.connection}, {cookie_}}, -1);
}

void PeerFinder::Attempt::introduce(Way way, shm::UniqueFd socket) {
  auto made = Introduction::make(
      finder_.loop_, std::move(socket), request_.introduction, request_.area.get(),
      [this](shm::Result<Introduction::Attached> attached) { on_introduced(std::move(attached)); });
  if (!made) return fail_soon(made.error());
  introduction_ = std::move(*made);
  way_ = way;
}

std::optional<shm::UniqueFd> PeerFinder::Attempt::introduce_to_pair(Way way) {
  auto pair = socket_pair();
  if (!pair) {
    fail_soon(pair.error());
    return std::nullopt;
  }
  introduce(way, std::move(pair->first));
  return way_ == way ? std::optional(std::move(pair->second)) : std::nullopt;
}

void PeerFinder::Attempt::forget_channel() {
  introduction_.reset();
  way_ = Way::none;
}

void PeerFinder::Attempt::on_introduced(shm::Result<Introduction::Attached> attached) {
  // Another process that has the socket, on its way to this one, is not the one that is meant.
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

void PeerFinder::Attempt::not_passed_here() {
  pass_deadline_.stop();
  act();
}

void PeerFinder::Attempt::fail_soon(shm::Error error) {
  failure_ = std::move(error);
  deadline_.start(0);
}

void PeerFinder::Attempt::finish(shm::Result<shm::UniqueFd> result) {
  leave();
  request_.area.reset();  // the session has it mapped
  request_.introduction = std::vector<std::byte>();
  const Done done = std::move(done_);  // the callback may destroy this object
  if (done) done(std::move(result));
}

void PeerFinder::Attempt::leave() {
  finder_.by_cookie_.erase(cookie_);
  finder_.attempts_.erase(request_.client.connection);
  deadline_.stop();
  pass_deadline_.stop();
}

}  // namespace smbdirect::workers
