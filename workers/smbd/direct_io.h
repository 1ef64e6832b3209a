// SPDX-License-Identifier: MIT
// READs and WRITEs that are done here, on open files that smbd's module has granted (DirectFiles), instead of
// by smbd: which of a session's requests are, and their way to the answer. Owned by the session's exchange
// with smbd; one thread, but for system calls that would block it (FileThreads).
//
// Whatever is unusual is left to smbd: an error, the end of the file where it is one, no memory, a right that
// is gone. That is possible at any time before the answer begins, for smbd then does all of the request once
// more: the same bytes go to the same place. So no error is translated here.
//
// A large READ by an RDMA channel may be sent from the page cache itself (FileViews), where the fabric sends
// files, the file has all of it in memory, and its client may write it, so that no other client may. Its
// pages are copied when they are given to the fabric's socket, before the answer: what was answered does not
// change. What may shorten the file waits until then. Who does so on another channel, or on this host by
// other means than smbd, ends this connection, for a message that has begun cannot end early.
//
// When the session ends, smbd is gone or the client is, what is in threads goes on without it, and nobody is
// told; but smbd does not see its connection end before that has.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "shm/loop/loop.h"
#include "workers/memory/ring.h"
#include "workers/session/context.h"
#include "workers/smbd/direct_files.h"
#include "workers/smbd/direct_operation.h"
#include "workers/smbd/file_threads.h"
#include "workers/smbd/queued_request.h"
#include "workers/smbd/response_path.h"

namespace smbdirect::workers {

class DirectIo final : private DirectOperation::Owner {
 public:
  /// resources: null: nothing is done here.
  DirectIo(SessionContext& context, DirectFiles& files, ResponsePath& responses,
           const DirectResources* resources)
      : context_(context),
        files_(files),
        responses_(responses),
        threads_(resources == nullptr ? nullptr : &resources->threads),
        mapped_(resources == nullptr ? nullptr : &resources->mapped),
        closer_(resources == nullptr ? nullptr : &resources->closer),
        loop_(resources == nullptr ? nullptr : &resources->loop),
        busy_(resources == nullptr ? nullptr : &resources->busy) {}
  ~DirectIo() { stop(); }
  DirectIo(const DirectIo&) = delete;
  DirectIo& operator=(const DirectIo&) = delete;

  /// Called from the loop when something has ended that was in a thread, or elsewhere: requests may go on.
  void on_ended(std::function<void()> told) { told_ = std::move(told); }
  /// Nothing more is done here, and nothing answered. stream: to smbd, which is about to be closed; -1: it
  /// has ended.
  void stop(int stream = -1);

  /// Whether a READ or WRITE could be done here at this moment: then it is worth being gathered, and worth
  /// staying awake for what it waits for. prefix, total: as for parse_direct_request().
  [[nodiscard]] std::optional<smb2::DirectRequest> wanted(std::span<const std::byte> prefix, uint64_t total);

  /// At its turn, with its data: it is done, or on its way. False: it is for smbd, now.
  [[nodiscard]] bool take(std::unique_ptr<QueuedRequest>& request);
  /// What is here of the data of a WRITE, while the rest is being fetched. Whether it worked or not, take()
  /// comes later, and goes on from there; so may smbd, with all of it. Null afterwards: written_ahead() gives
  /// it back; nothing else of this session is written ahead meanwhile.
  void write_ahead(std::unique_ptr<QueuedRequest>& request);
  /// That one, once; or nullptr.
  [[nodiscard]] std::unique_ptr<QueuedRequest> written_ahead() { return std::move(written_ahead_); }
  /// That one is in a thread, and its file hangs: others need not wait for it. Else it is looked at again.
  [[nodiscard]] bool ahead_hangs();
  /// Then: the rest of its data. It goes on as after take(), and written_ahead() does not give it back.
  void take_rest(std::vector<QueuedRequest::Data> rest);
  /// Whether a request must wait for what is in threads, for what is sent from files, or for what other
  /// channels have under way: then it is looked at again soon. request: its bytes, as for for_each_end().
  [[nodiscard]] bool holds_up(smb2::Holds holds, const smb2::FileId& file,
                              std::span<const std::byte> request);
  /// What is under way longer than this hangs: what does not concern it need not wait.
  static constexpr uint64_t kMostHeldMs = 200;
  [[nodiscard]] bool hangs(const smb2::FileId& file) const;
  /// Nothing is in a thread, nor has come back from one and is waited for.
  [[nodiscard]] bool idle() const {
    return in_threads_.empty() && returned_.empty() && written_ahead_ == nullptr;
  }
  /// What was not done here after all: it goes before everything that waits. nullptr: there is none.
  [[nodiscard]] std::unique_ptr<QueuedRequest> next_returned();
  [[nodiscard]] bool any_returned() const { return !returned_.empty(); }
  /// A request that take() has done, to be used again; or nullptr.
  [[nodiscard]] std::unique_ptr<QueuedRequest> spare();

 private:
  enum class Next : uint8_t {
    answer,
    smbd,
    perhaps,  // it might block: between two turns of the loop, or in a thread
    thread,   // it blocks
    nothing
  };
  using Operation = std::unique_ptr<DirectOperation>;

  static constexpr size_t kMostInThreads = 64;          // of one session
  static constexpr uint32_t kMostInline = 1024 * 1024;  // of a READ: all of it waits for the last byte
  static constexpr uint32_t kLeastSent = 64 * 1024;     // from the file itself: of less a copy is cheaper
  static constexpr uint64_t kSmbdEveryMs = 2'000;       // it ends sessions that have expired or are idle
  static constexpr uint64_t kReadsAtOnce =
      4;  // are answered, then they leave, and the client has something to do
  static constexpr size_t kMostSpare = 64;
  static constexpr uint64_t kAgainMs = 1;        // until other channels are asked again
  static constexpr uint64_t kPendingMs = 1'000;  // in a thread, until the client is told that it takes time

  void ended(Operation operation) override;
  void go_on_waiting() {
    if (told_ && !stopped_) told_();
  }
  void go_on_soon();
  void tell_waiting();
  void look_again(uint64_t after_ms = kAgainMs);
  [[nodiscard]] DirectOperation* ahead() const;
  [[nodiscard]] Operation fresh();

  [[nodiscard]] std::shared_ptr<DirectFile> file_for(const QueuedRequest& queued);
  [[nodiscard]] Next go_on(DirectOperation& operation);
  [[nodiscard]] bool send_file(DirectOperation& operation);
  [[nodiscard]] std::optional<Next> take_result(DirectOperation& operation);
  [[nodiscard]] Next finish(const DirectOperation& operation) const;
  [[nodiscard]] bool place(DirectOperation& operation);
  /// It is done, or in a thread: nothing is left. Else it is for smbd, and given back.
  [[nodiscard]] std::unique_ptr<QueuedRequest> follow(Operation operation, Next next);
  [[nodiscard]] bool to_thread(Operation& operation, std::optional<dev_t> quick);
  void answer(DirectOperation& operation);
  void say(DirectOperation& operation);
  void keep(Operation operation);

  SessionContext& context_;
  DirectFiles& files_;
  ResponsePath& responses_;
  FileThreads* threads_;
  Budget* mapped_;
  FileCloser* closer_;
  uv_loop_t* loop_;
  shm::BusyPoll* busy_;
  uint64_t reads_answered_ = 0;
  uint64_t last_sent_ = 0;  // RDMA WRITE, by number, of those from files
  std::function<void()> told_;
  std::unique_ptr<shm::Timer> again_;  // few ever need it
  uint64_t again_at_ = UINT64_MAX;
  std::optional<shm::Deferred> soon_;  // something has ended
  bool stopped_ = false;
  std::vector<DirectOperation*> in_threads_;
  std::unique_ptr<shm::Timer> pending_;
  bool watches_ = false;  // pending_ runs
  Ring<std::unique_ptr<QueuedRequest>> returned_;
  std::unique_ptr<QueuedRequest> written_ahead_;
  std::vector<Operation> spare_;
  std::vector<std::unique_ptr<QueuedRequest>> spare_requests_;
};

}  // namespace smbdirect::workers
