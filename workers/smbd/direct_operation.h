// SPDX-License-Identifier: MIT
// One READ or WRITE that is done here, on the open file itself: how far it is, its memory, and the next
// system call of it. Owned by DirectIo, and by FileThreads while a thread makes that call.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <sys/types.h>
#include <sys/uio.h>
#include <vector>

#include "workers/smbd/direct_files.h"
#include "workers/smbd/file_threads.h"
#include "workers/smbd/placement.h"
#include "workers/smbd/queued_request.h"

namespace smbdirect::workers {

class DirectOperation final : public FileWork {
 public:
  class Owner {
   public:
    virtual void ended(std::unique_ptr<DirectOperation> operation) = 0;

   protected:
    ~Owner() = default;
  };
  /// What a READ that is answered inline leaves in front of its data, for the header.
  static constexpr uint32_t kHeadBytes = 80;

  void begin(std::unique_ptr<QueuedRequest> what, std::shared_ptr<DirectFile> on, uint64_t now_us,
             Owner& whose);
  /// Ready for another one: what it has is let go of.
  void clear();

  [[nodiscard]] const smb2::DirectRequest& request() const { return *queued->direct; }
  [[nodiscard]] bool write() const { return request().command == smb2::Command::write; }
  [[nodiscard]] const Right& right() const { return file->right(request().command); }
  [[nodiscard]] uint32_t left() const { return request().length - moved; }

  /// READ: whether the file has all of these bytes in memory, holes aside, and may be read.
  [[nodiscard]] bool all_there() const;
  /// Memory for the next bytes of a READ. False: there is none.
  [[nodiscard]] bool room(SlabPool& slabs, Budget& budget);
  /// What the next call moves. flags: of preadv2 and pwritev2.
  void aim(int flags);
  /// It is made, if the right is still there: result() of it.
  void call();
  /// Bytes, or an errno, negative.
  [[nodiscard]] ssize_t result() const { return result_; }
  /// The result was bytes.
  void took();
  /// What was written ahead, if anything was: the request knows it.
  void took_ahead();

  void run() override { call(); }
  void not_run() override { result_ = -ECANCELED; }
  void done(std::unique_ptr<FileWork> self) override;
  void recharge(Budget& budget) override;

  std::unique_ptr<QueuedRequest> queued;
  std::shared_ptr<DirectFile> file;
  uint64_t began_us = 0;
  uint64_t in_thread_ms = 0;  // loop's time, once it was given to one
  uint32_t moved = 0;
  bool at_end = false;    // READ: of the file
  bool ahead = false;     // WRITE: of the data that is here, while the rest is fetched
  bool for_smbd = false;  // whatever comes of the call

  /// READ: what came, [begin, end) of the slab; of one by an RDMA channel the last only.
  struct Chunk {
    SlabRef slab;
    uint32_t begin = 0;
    uint32_t end = 0;
    [[nodiscard]] uint32_t room() const { return uint32_t(slab.bytes().size()) - end; }
    [[nodiscard]] std::span<const std::byte> bytes() const {
      return std::span<const std::byte>(slab.bytes()).subspan(begin, end - begin);
    }
  };
  std::vector<Chunk> chunks;
  Placement placement;  // READ by an RDMA channel

 private:
  [[nodiscard]] ssize_t read_some() const;
  [[nodiscard]] ssize_t write_some() const;

  static constexpr size_t kMostPieces = 64;  // of a slab each: more than any READ or WRITE has

  Owner* owner_ = nullptr;
  std::array<iovec, kMostPieces> pieces_{};
  int count_ = 0;
  int flags_ = 0;
  ssize_t result_ = 0;
};

}  // namespace smbdirect::workers
