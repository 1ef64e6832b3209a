// SPDX-License-Identifier: MIT
#include "workers/smbd/direct_io.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <sys/uio.h>
#include <utility>

namespace smbdirect::workers {

void DirectIo::stop(int stream) {
  stopped_ = true;
  if (!in_threads_.empty()) {
    const auto kept =
        std::make_shared<const shm::UniqueFd>(stream < 0 ? -1 : ::fcntl(stream, F_DUPFD_CLOEXEC, 0));
    for (DirectOperation* operation : in_threads_) threads_->abandon(*operation, kept);
  }
  in_threads_.clear();
  returned_.clear();
  written_ahead_.reset();
  if (again_) again_->stop();
  if (pending_) pending_->stop();
  if (soon_) soon_->cancel();
}

std::optional<smb2::DirectRequest> DirectIo::wanted(std::span<const std::byte> prefix, uint64_t total) {
  if (threads_ == nullptr || stopped_ || !files_.ready()) return std::nullopt;
  const auto request = context_.translator.direct_request(prefix, total);
  if (!request || files_.find(*request) == nullptr) return std::nullopt;
  busy_->expect();  // the client's data, or a thread
  return request;
}

/// All that must be so at the moment it is done.
std::shared_ptr<DirectFile> DirectIo::file_for(const QueuedRequest& queued) {
  const smb2::DirectRequest& request = *queued.direct;
  if (stopped_ || context_.translator.holds(request.file_id)) return nullptr;
  const bool write = request.command == smb2::Command::write;
  if (!write && !request.rdma_channel && request.length > kMostInline) return nullptr;
  if (responses_.full()) return nullptr;
  auto file = files_.find(request);
  if (!file) return nullptr;
  const uint64_t now = context_.transport.now();
  if (file->smbd_at_ms == 0) file->smbd_at_ms = now;  // it has just opened it
  if (now - file->smbd_at_ms >= kSmbdEveryMs) {
    file->smbd_at_ms = now;
    return nullptr;
  }
  if (!context_.translator.begin_here(queued.request.ticket, request)) return nullptr;
  return file;
}

bool DirectIo::take(std::unique_ptr<QueuedRequest>& request) {
  auto file = file_for(*request);
  if (!file) {
    request->direct.reset();
    return false;
  }
  Operation operation = fresh();
  operation->begin(std::move(request), std::move(file), context_.transport.clock_us(), *this);
  const Next next = go_on(*operation);
  request = follow(std::move(operation), next);
  return request == nullptr;
}

DirectIo::Operation DirectIo::fresh() {
  if (spare_.empty()) return std::make_unique<DirectOperation>();
  Operation operation = std::move(spare_.back());
  spare_.pop_back();
  return operation;
}

void DirectIo::write_ahead(std::unique_ptr<QueuedRequest>& request) {
  const smb2::DirectRequest& wanted = *request->direct;
  if (stopped_ || context_.translator.holds(wanted.file_id)) return;
  auto file = files_.find(wanted);
  if (file == nullptr) return;
  Operation operation = fresh();
  operation->begin(std::move(request), std::move(file), 0, *this);
  operation->ahead = true;
  DirectFile& there = *operation->file;
  const bool waits = there.writes_wait;
  operation->aim(waits || there.never_blocks ? 0 : RWF_NOWAIT);
  if (waits && to_thread(operation, there.device)) return;
  if (!waits) {
    operation->call();
    operation->took_ahead();
    if (operation->result() == -EOPNOTSUPP) there.writes_wait = true;
  }
  request = std::move(operation->queued);
  keep(std::move(operation));
}

DirectOperation* DirectIo::ahead() const {
  const auto at = std::ranges::find_if(in_threads_, &DirectOperation::ahead);
  return at == in_threads_.end() ? nullptr : *at;
}

bool DirectIo::ahead_hangs() {
  const DirectOperation* operation = ahead();
  if (operation == nullptr) return false;
  if (hangs(operation->request().file_id)) return true;
  look_again(kMostHeldMs - (context_.transport.now() - operation->in_thread_ms));
  return false;
}

/// The thread looks at none of what is changed here.
void DirectIo::take_rest(std::vector<QueuedRequest::Data> rest) {
  DirectOperation& operation = *ahead();
  std::ranges::move(rest, std::back_inserter(operation.queued->data));
  operation.ahead = false;
  operation.began_us = context_.transport.clock_us();
  operation.for_smbd = file_for(*operation.queued) == nullptr;
}

/// As far as it goes without waiting.
DirectIo::Next DirectIo::go_on(DirectOperation& operation) {
  DirectFile& file = *operation.file;
  const bool write = operation.write();
  bool& waits = write ? file.writes_wait : file.reads_wait;
  if (send_file(operation)) return finish(operation);
  while (operation.left() > 0 && !operation.at_end) {
    if (!write && !operation.room(context_.slabs, context_.budget)) return Next::smbd;
    if (!file.never_blocks && waits) {
      operation.aim(0);
      return Next::perhaps;
    }
    operation.aim(file.never_blocks ? 0 : RWF_NOWAIT);
    operation.call();
    if (operation.result() == -EOPNOTSUPP && !file.never_blocks) {
      waits = true;  // this file system cannot say what would block
    } else if (operation.result() == -EAGAIN && !file.never_blocks) {
      operation.aim(0);
      return Next::thread;
    } else if (const auto next = take_result(operation)) {
      return *next;
    }
  }
  return finish(operation);
}

/// All of a READ by an RDMA channel, from the page cache itself. False: it is to be read. Who may write is
/// alone with the file: smbd lets no other client shorten it before this one has heard of that, behind what
/// it is sent.
bool DirectIo::send_file(DirectOperation& operation) {
  const smb2::DirectRequest& request = operation.request();
  DirectFile& file = *operation.file;
  if (operation.write() || !request.rdma_channel || request.length < kLeastSent || operation.moved > 0)
    return false;
  if (!context_.transport.sends_files() || !file.never_blocks) return false;
  if (!file.write.holds() || !operation.all_there()) return false;
  std::array<std::optional<FileViews::View>, 2> views;
  uint32_t found = 0;
  for (size_t i = 0; i < views.size() && found < request.length; ++i) {
    views[i] =
        file.views.at(file.fd.get(), request.offset + found, request.length - found, *mapped_, *closer_);
    if (!views[i]) return false;
    found += static_cast<uint32_t>(views[i]->bytes.size());
  }
  if (found < request.length) return false;
  for (const auto& view : views)
    if (view) responses_.place(view->owner, view->bytes, operation.placement);
  operation.moved = found;
  last_sent_ = responses_.writes_asked();
  context_.transport.own_counters().direct_uncopied_bytes += found;
  return true;
}

/// Something: it does not go on from here.
std::optional<DirectIo::Next> DirectIo::take_result(DirectOperation& operation) {
  const ssize_t result = operation.result();
  if (result < 0 || (result == 0 && operation.write())) return Next::smbd;
  operation.took();
  if (operation.write()) return std::nullopt;
  const bool chunk_ends = operation.chunks.back().room() == 0 || operation.left() == 0 || operation.at_end;
  if (chunk_ends && operation.request().rdma_channel && !place(operation)) return Next::nothing;
  return std::nullopt;
}

/// It leaves while it is in the cache. False: the session has ended over it.
bool DirectIo::place(DirectOperation& operation) {
  const auto chunk = std::move(operation.chunks.back());
  operation.chunks.pop_back();
  responses_.place(chunk.slab, chunk.bytes(), operation.placement);
  if (operation.left() > 0) context_.transport.pump();
  return !stopped_;
}

DirectIo::Next DirectIo::finish(const DirectOperation& operation) const {
  if (operation.write() || operation.left() == 0) return Next::answer;
  // MS-SMB2 3.3.5.12: smbd has the words for it.
  if (operation.moved == 0 || operation.moved < operation.request().minimum) return Next::smbd;
  return Next::answer;
}

std::unique_ptr<QueuedRequest> DirectIo::follow(Operation operation, Next next) {
  if (next == Next::thread || next == Next::perhaps) {
    const auto quick = next == Next::perhaps ? std::optional(operation->file->device) : std::nullopt;
    if (to_thread(operation, quick)) return nullptr;
    next = Next::smbd;
  }
  if (next == Next::answer) answer(*operation);
  auto request = std::move(operation->queued);
  keep(std::move(operation));
  if (next == Next::smbd) {
    request->direct.reset();
    return request;
  }
  request->clear();
  if (spare_requests_.size() < kMostSpare) spare_requests_.push_back(std::move(request));
  return nullptr;
}

void DirectIo::keep(Operation operation) {
  operation->clear();
  if (spare_.size() < kMostSpare) spare_.push_back(std::move(operation));
}

bool DirectIo::to_thread(Operation& operation, std::optional<dev_t> quick) {
  if (in_threads_.size() >= kMostInThreads) return false;
  DirectOperation& there = *operation;
  there.in_thread_ms = context_.transport.now();
  std::unique_ptr<FileWork> work = std::move(operation);
  if (!threads_->begin(work, quick)) {
    operation.reset(static_cast<DirectOperation*>(work.release()));
    return false;
  }
  in_threads_.push_back(&there);
  if (!std::exchange(watches_, true)) {
    if (!pending_) pending_ = std::make_unique<shm::Timer>(*loop_, [this] { tell_waiting(); });
    pending_->start(kPendingMs);
  }
  return true;
}

/// A client waits longer for what it knows to take time.
void DirectIo::tell_waiting() {
  const uint64_t now = context_.transport.now();
  watches_ = false;
  uint64_t next = UINT64_MAX;
  for (size_t i = 0; i < in_threads_.size(); ++i) {  // none is left if the session ends over it
    QueuedRequest& queued = *in_threads_[i]->queued;
    if (queued.direct->told) continue;
    const uint64_t due = in_threads_[i]->in_thread_ms + kPendingMs;
    if (due > now) {
      next = std::min(next, due - now);
      continue;
    }
    const auto header = std::span<const std::byte>(queued.pdu.bytes()).first(smb2::kHeaderBytes);
    context_.translator.told_pending(queued.request.ticket);
    responses_.interim(smb2::answer_interim(*queued.direct, header));
    go_on_soon();
  }
  if (next == UINT64_MAX || stopped_) return;
  watches_ = true;
  pending_->start(next);
}

/// A thread is done with it. What ends at one time is looked at, and leaves, together.
void DirectIo::ended(Operation operation) {
  std::erase(in_threads_, operation.get());
  if (operation->ahead) {
    operation->took_ahead();
    written_ahead_ = std::move(operation->queued);
    keep(std::move(operation));
    return go_on_soon();
  }
  const auto over = operation->for_smbd ? std::optional(Next::smbd) : take_result(*operation);
  const Next next = over ? *over : go_on(*operation);
  if (auto request = follow(std::move(operation), next)) returned_.push(std::move(request));
  go_on_soon();
}

void DirectIo::go_on_soon() {
  if (stopped_) return;
  if (!soon_) soon_.emplace(*loop_, [this] { go_on_waiting(); });
  soon_->trigger();
}

/// All READs that one turn of the loop answers would leave at its end: client and worker took turns, and each
/// waited for the other. To a WRITE's answer that matters less than what one more system call costs.
void DirectIo::answer(DirectOperation& operation) {
  say(operation);
  busy_->expect();  // its next request
  if (!operation.write() && ++reads_answered_ % kReadsAtOnce == 0) context_.transport.hurry();
}

void DirectIo::say(DirectOperation& operation) {
  const smb2::DirectRequest& request = operation.request();
  QueuedRequest& queued = *operation.queued;
  const auto header = std::span<const std::byte>(queued.pdu.bytes()).first(smb2::kHeaderBytes);
  const bool write = operation.write();
  const auto settled = context_.translator.answered_here(queued.request.ticket, request);
  const smb2::DirectAnswer head = write
                                      ? smb2::answer_write(request, header, operation.moved, settled.credits)
                                      : smb2::answer_read(request, header, operation.moved, settled.credits);
  const ResponsePath::Here here{.invalidate = settled.invalidate,
                                .released = settled.released,
                                .operation = write ? shm::Operation::smb_write : shm::Operation::smb_read,
                                .began_us = operation.began_us};
  files_.did(request, operation.moved);
  if (write || request.rdma_channel) return responses_.answer(head, here);
  responses_.answer(head, operation.chunks, here);
}

bool DirectIo::holds_up(smb2::Holds holds, const smb2::FileId& file, std::span<const std::byte> request) {
  if (holds == smb2::Holds::nothing) return false;
  // What it shortens may be the same file, opened once more.
  if (responses_.writes_done() < last_sent_) return true;
  if (holds == smb2::Holds::sends) return false;
  if (files_.older_under_way()) {
    look_again();
    return true;
  }
  // A compound is mostly about other files, and smbd does it beside what its threads are at.
  const auto header = smb2::parse_header(request);
  const bool compound = header && header->next_command != 0;
  const uint64_t now = context_.transport.now();
  const auto concerned = [&](const DirectOperation* operation) {
    if (holds == smb2::Holds::all) return !compound || now - operation->in_thread_ms < kMostHeldMs;
    return operation->request().file_id == file;
  };
  const auto held = std::ranges::find_if(in_threads_, concerned);
  if (held != in_threads_.end()) {
    const uint64_t age = now - (*held)->in_thread_ms;
    if (age < kMostHeldMs) look_again(kMostHeldMs - age);
    return true;
  }
  // Those of other channels too, and only now: what this one has sent before is done here as always.
  if (!files_.closing_under_way(request)) return false;
  look_again();
  return true;
}

bool DirectIo::hangs(const smb2::FileId& file) const {
  const uint64_t now = context_.transport.now();
  return std::ranges::any_of(in_threads_, [&](const DirectOperation* operation) {
    return operation->request().file_id == file && now - operation->in_thread_ms >= kMostHeldMs;
  });
}

void DirectIo::look_again(uint64_t after_ms) {
  const uint64_t at = context_.transport.now() + after_ms;
  if (at >= again_at_) return;
  again_at_ = at;
  if (!again_)
    again_ = std::make_unique<shm::Timer>(*loop_, [this] {
      again_at_ = UINT64_MAX;
      go_on_waiting();
    });
  again_->start(after_ms);
}

std::unique_ptr<QueuedRequest> DirectIo::next_returned() {
  if (returned_.empty()) return nullptr;
  return returned_.pop();
}

std::unique_ptr<QueuedRequest> DirectIo::spare() {
  if (spare_requests_.empty()) return nullptr;
  auto request = std::move(spare_requests_.back());
  spare_requests_.pop_back();
  return request;
}

}  // namespace smbdirect::workers
