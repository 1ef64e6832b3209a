// SPDX-License-Identifier: MIT
#include "workers/smbd/direct_operation.h"

#include <algorithm>
#include <cerrno>
#include <sys/stat.h>
#include <utility>

namespace smbdirect::workers {

void DirectOperation::begin(std::unique_ptr<QueuedRequest> what, std::shared_ptr<DirectFile> on,
                            uint64_t now_us, Owner& whose) {
  queued = std::move(what);
  file = std::move(on);
  began_us = now_us;
  owner_ = &whose;
  moved = queued->ahead;
  at_end = ahead = for_smbd = false;
  if (request().rdma_channel && !write()) placement.set_packed(queued->memory);
}

void DirectOperation::clear() {
  queued.reset();
  file.reset();
  chunks.clear();
  placement.clear();
}

bool DirectOperation::all_there() const {
  constexpr uint64_t kBlock = 512;
  struct stat status{};
  if (!right().holds() || ::fstat(file->fd.get(), &status) != 0) return false;
  const auto size = static_cast<uint64_t>(status.st_size);
  if (request().offset > size || size - request().offset < request().length) return false;
  // A hole would be filled by looking at it through a mapping.
  return static_cast<uint64_t>(status.st_blocks) >= (size + kBlock - 1) / kBlock;
}

bool DirectOperation::room(SlabPool& slabs, Budget& budget) {
  if (!chunks.empty() && chunks.back().room() > 0) return true;
  SlabRef slab = slabs.acquire(budget);
  if (!slab) return false;
  const uint32_t begin = chunks.empty() && !request().rdma_channel ? kHeadBytes : 0;
  chunks.push_back({.slab = std::move(slab), .begin = begin, .end = begin});
  return true;
}

void DirectOperation::aim(int flags) {
  flags_ = flags;
  count_ = 0;
  const auto add = [&](std::span<std::byte> bytes) {
    if (size_t(count_) < pieces_.size()) pieces_[size_t(count_++)] = {bytes.data(), bytes.size()};
  };
  if (!write()) {
    const Chunk& chunk = chunks.back();
    return add(chunk.slab.bytes().subspan(chunk.end, std::min(chunk.room(), left())));
  }
  if (!queued->fetches()) return add(queued->pdu.bytes().subspan(request().data_offset + moved, left()));
  uint32_t done = moved;
  for (const QueuedRequest::Data& data : queued->data) {
    const uint32_t here = std::min(done, data.length);
    done -= here;
    if (here < data.length) add(data.slab.bytes().subspan(here, data.length - here));
  }
}

void DirectOperation::call() {
  do {
    result_ = write() ? write_some() : read_some();
  } while (result_ == -EINTR);
  // What was read of a file that is being closed may be what somebody else has written, who has it now.
  const bool lost = !write() && !file->sequence.is_newest(request().channel_sequence);
  if (lost || right().keeper_died()) result_ = -EACCES;
}

ssize_t DirectOperation::read_some() const {
  if (!right().holds()) return -EACCES;
  const ssize_t result =
      ::preadv2(file->fd.get(), pieces_.data(), count_, static_cast<off_t>(request().offset + moved), flags_);
  return result < 0 ? -errno : result;
}

/// Marked before it is looked at whether it may be done, and until it has been: whoever says first that it
/// may not, in either word, and then looks at the marks, has seen it, or it is not done.
ssize_t DirectOperation::write_some() const {
  const uint16_t sequence = request().channel_sequence;
  const DirectUse::Mark mark = file->sequence.mark(sequence);
  if (!file->sequence.is_newest(sequence) || !right().holds()) return -EACCES;
  const ssize_t result = ::pwritev2(file->fd.get(), pieces_.data(), count_,
                                    static_cast<off_t>(request().offset + moved), flags_);
  return result < 0 ? -errno : result;
}

void DirectOperation::took() {
  const auto bytes = static_cast<uint32_t>(result_);
  moved += bytes;
  if (write()) return;
  at_end = bytes == 0;
  chunks.back().end += bytes;
}

void DirectOperation::took_ahead() {
  if (result_ > 0) took();
  queued->ahead = moved;
}

void DirectOperation::done(std::unique_ptr<FileWork> self) {
  owner_->ended(std::unique_ptr<DirectOperation>(static_cast<DirectOperation*>(self.release())));
}

void DirectOperation::recharge(Budget& budget) {
  queued->pdu.recharge(budget);
  for (QueuedRequest::Data& data : queued->data) data.slab.recharge(budget);
  for (Chunk& chunk : chunks) chunk.slab.recharge(budget);
}

}  // namespace smbdirect::workers
