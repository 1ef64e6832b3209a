// SPDX-License-Identifier: MIT
#include "daemon/accept/leaving_addresses.h"

#include <utility>

namespace smbdirect::daemon {
namespace {

constexpr uint64_t kAnswerMs = 500;  // beside its own patience, for the other daemon

}  // namespace

void LeavingAddresses::leave(const shm::Host& address, Answer answer, const Elsewhere& elsewhere) {
  dispatcher_.leaving().insert(address);
  Dispatcher::Ending ending =
      dispatcher_.end_at([&](const shm::Host& local) { return local == address; },
                         "the address " + shm::host_text(address) + " leaves this host (smbdirectctl leave)");
  const uint64_t number = next_++;
  Wait& wait = *waits_.emplace(number, std::make_unique<Wait>(loop_, [this, number] { finish(number); }))
                    .first->second;
  wait.answer = std::move(answer);
  wait.ended = ending.offers + ending.granted.size();
  wait.waited_for = std::move(ending.granted);
  wait.deadline.start(elsewhere ? kPatienceMs + kAnswerMs : kPatienceMs);
  if (elsewhere) {
    wait.unheard = true;
    elsewhere(address, [this, number](const Left& left) { heard(number, left); });
  }
  look();
}

void LeavingAddresses::inherit(const std::vector<std::string>& addresses) {
  for (const std::string& text : addresses) {
    if (const auto address = shm::address_from_text(text, 0))
      dispatcher_.leaving().insert(shm::host_of(*address));
  }
}

void LeavingAddresses::heard(uint64_t number, const Left& elsewhere) {
  const auto found = waits_.find(number);
  if (found == waits_.end()) return;
  Wait& wait = *found->second;
  wait.ended += elsewhere.ended;
  wait.still_elsewhere = elsewhere.still_there;
  wait.unheard = elsewhere.unheard;
  if (wait.still_elsewhere > 0 || wait.unheard) return finish(number);
  look();
}

void LeavingAddresses::look() {
  std::vector<uint64_t> over;
  for (const auto& [number, wait] : waits_) {
    auto& left = wait->waited_for;
    while (!left.empty() && !dispatcher_.connection_table().slot_of(left.back())) left.pop_back();
    if (left.empty() && !wait->unheard) over.push_back(number);
  }
  for (const uint64_t number : over) finish(number);
}

void LeavingAddresses::finish(uint64_t number) {
  const auto found = waits_.find(number);
  if (found == waits_.end()) return;
  const std::unique_ptr<Wait> wait = std::move(found->second);
  waits_.erase(found);
  std::erase_if(wait->waited_for, [&](shm::ConnectionId connection) {
    return !dispatcher_.connection_table().slot_of(connection);
  });
  const size_t here = wait->waited_for.size();
  wait->answer(
      {.ended = wait->ended - here, .still_there = here + wait->still_elsewhere, .unheard = wait->unheard});
}

std::vector<std::string> LeavingAddresses::texts() const {
  std::vector<std::string> texts;
  for (const shm::Host& address : dispatcher_.leaving()) texts.push_back(shm::host_text(address));
  return texts;
}

}  // namespace smbdirect::daemon
