// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/completion_queues.h"

#include <algorithm>
#include <cerrno>

namespace smbdirect::workers::fabric::verbs {

shm::Result<std::unique_ptr<CompletionQueues>> CompletionQueues::create(VerbsApi& api, uv_loop_t& loop,
                                                                        ibv_context& context,
                                                                        uint32_t max_entries,
                                                                        const SeatTable& seats,
                                                                        PollStats& stats, Owner& owner) {
  ChannelHandle channel = own(api, api.create_comp_channel(&context));
  if (channel == nullptr) return shm::fail("ibv_create_comp_channel", errno);
  return std::unique_ptr<CompletionQueues>(
      new CompletionQueues(api, loop, context, max_entries, seats, stats, owner, std::move(channel)));
}

CompletionQueues::CompletionQueues(VerbsApi& api, uv_loop_t& loop, ibv_context& context, uint32_t max_entries,
                                   const SeatTable& seats, PollStats& stats, Owner& owner,
                                   ChannelHandle channel)
    : api_(api),
      context_(context),
      max_entries_(max_entries),
      seats_(seats),
      stats_(stats),
      owner_(owner),
      channel_(loop, std::move(channel), [this](int, int status) { on_readable(status); }),
      again_(loop, [this] { round(); }) {
  channel_.want(UV_READABLE);
}

CompletionQueues::~CompletionQueues() {
  channel_.want(0);
  // Events that are not acknowledged would make ibv_destroy_cq wait for ever.
  for (Queue& queue : queues_) {
    if (queue.unacknowledged > 0) api_.ack_cq_events(queue.cq.get(), queue.unacknowledged);
  }
}

// --- room ---

shm::Result<CompletionQueues::Room> CompletionQueues::reserve(uint32_t work) {
  for (size_t i = 0; i < queues_.size(); ++i) {
    Queue& queue = queues_[i];
    if (queue.entries - queue.reserved < work) continue;
    queue.reserved += work;
    return Room{.cq = queue.cq.get(), .index = i, .work = work};
  }
  if (auto added = add(work); !added) return std::unexpected(added.error());
  queues_.back().reserved = work;
  return Room{.cq = queues_.back().cq.get(), .index = queues_.size() - 1, .work = work};
}

shm::Result<> CompletionQueues::add(uint32_t work) {
  if (work > max_entries_)
    return shm::fail("a connection needs more completion queue entries than the RDMA device has");
  const int vectors = std::max(1, context_.num_comp_vectors);
  const auto vector = static_cast<int>(queues_.size() % static_cast<size_t>(vectors));
  int error = 0;
  // Large ones serve many connections; a device short of memory may still have room for this one.
  for (const uint32_t entries : {std::max(work, std::min(kEntries, max_entries_)), work}) {
    CqHandle cq = own(
        api_, api_.create_cq(&context_, static_cast<int>(entries), nullptr, channel_.owner().get(), vector));
    if (cq == nullptr) {
      error = errno;
      continue;
    }
    if (const int armed = api_.req_notify_cq(cq.get(), 0); armed != 0)
      return shm::fail("ibv_req_notify_cq", armed);
    queues_.push_back({.cq = std::move(cq), .entries = entries});
    return {};
  }
  return shm::fail("ibv_create_cq", error);
}

void CompletionQueues::release(const Room& room) {
  Queue& queue = queues_[room.index];
  queue.releasing += room.work;
  if (queue.state == State::resting) queue.state = State::last_look;
  if (!failed_) again_.trigger();
}

// --- waking up ---

void CompletionQueues::on_readable(int status) {
  if (status < 0) {
    taken_away_ = status == UV_EBADF;  // libuv's word for EPOLLERR: the kernel has closed the channel
    fail("polling the completion channel", -status);
  } else if (!take_events()) {
    return;
  }
  round();
}

/// False when there was none: readiness may be stale. One for each queue that is armed and no call more: it
/// would be to hear that there is none.
bool CompletionQueues::take_events() {
  bool any = false;
  const auto armed = std::ranges::count_if(queues_, [](const Queue& q) { return q.state != State::unarmed; });
  for (size_t most = std::max(size_t{1}, size_t(armed)); most > 0; --most) {
    ibv_cq* cq = nullptr;
    void* context = nullptr;
    if (api_.get_cq_event(channel_.owner().get(), &cq, &context) != 0) {
      if (errno == EAGAIN || errno == EINTR) break;
      taken_away_ = errno == EIO;  // as above
      fail("ibv_get_cq_event", errno);
      break;
    }
    any = true;
    ++stats_.wakes;
    const auto queue = std::ranges::find(queues_, cq, [](const Queue& q) { return q.cq.get(); });
    if (queue == queues_.end()) continue;
    queue->state = State::unarmed;
    if (++queue->unacknowledged >= kAckBatch) {
      api_.ack_cq_events(cq, queue->unacknowledged);
      queue->unacknowledged = 0;
    }
  }
  return any || failure_;
}

void CompletionQueues::round() {
  unsigned budget = kPerWake;
  touched_count_ = 0;
  for (size_t i = 0; i < queues_.size() && !failure_; ++i) {
    poll(queues_[(next_ + i) % queues_.size()], budget);
  }
  ++next_;  // a busy queue must not keep the others from their turn
  // Handlers run in here; they may end connections, and make new ones.
  for (unsigned i = 0; i < touched_count_; ++i) {
    if (DeviceUser* user = seats_.find(touched_[i]); user != nullptr) user->on_round_end();
  }
  if (failure_ && !failed_) {
    failed_ = true;
    channel_.want(0);
    owner_.on_polling_failed(*failure_, taken_away_);
    return;
  }
  const bool more = std::ranges::any_of(queues_, [](const Queue& q) { return q.state != State::resting; });
  if (more && !failed_) again_.trigger();
}

void CompletionQueues::poll(Queue& queue, unsigned& budget) {
  std::array<ibv_wc, kPerPoll> completions;
  while (queue.state != State::resting && budget > 0 && !failure_) {
    const int most = static_cast<int>(std::min(budget, kPerPoll));
    const int count = api_.poll_cq(queue.cq.get(), most, completions.data());
    ++stats_.polls;
    if (count < 0) {
      fail("ibv_poll_cq", 0);
      return;
    }
    if (count == 0) {
      ++stats_.empty_polls;
      if (!found_nothing(queue)) return;
      continue;
    }
    stats_.completions += static_cast<unsigned>(count);
    budget -= static_cast<unsigned>(count);
    if (busy_poll_ns_ != 0) last_found_ = uv_hrtime();
    for (int i = 0; i < count; ++i) dispatch(completions[i]);
  }
}

/// The queue is empty. True when it is to be polled once more.
bool CompletionQueues::found_nothing(Queue& queue) {
  queue.reserved -= queue.releasing;
  queue.releasing = 0;
  if (queue.state == State::last_look) {
    queue.state = State::resting;
    return false;
  }
  // Spinning: it stays unarmed, and the next round, with other work in between, looks again.
  if (busy_poll_ns_ != 0 && uv_hrtime() - last_found_ < busy_poll_ns_) return false;
  if (loops_ != nullptr && loops_->awake()) return false;
  if (const int error = api_.req_notify_cq(queue.cq.get(), 0); error != 0) {
    fail("ibv_req_notify_cq", error);
    return false;
  }
  queue.state = State::last_look;
  return true;
}

void CompletionQueues::dispatch(const ibv_wc& completion) {
  const WorkId id = WorkId::unpack(completion.wr_id);
  const SeatTable::Place place{id.seat, id.generation};
  DeviceUser* user = seats_.find(place);
  if (user == nullptr) {
    ++stats_.stale;
    return;
  }
  user->on_work(id, completion);
  for (unsigned i = 0; i < touched_count_; ++i) {
    if (touched_[i].seat == place.seat && touched_[i].generation == place.generation) return;
  }
  touched_[touched_count_++] = place;
}

void CompletionQueues::fail(const char* call, int system_errno) {
  if (!failure_) failure_ = shm::Error{call, system_errno}.text();
}

}  // namespace smbdirect::workers::fabric::verbs
