// SPDX-License-Identifier: MIT
// Closes files of smbd's in a thread of its own. The last descriptor of a deleted file, or the last mapping,
// takes its blocks with it when it goes, a second for some GiB; on a network file system close() also writes
// back what is dirty. On the loop all clients of the worker would wait for that.
//
// Owned by the worker, outlives all that has files, and dies before the budgets they count in; one at a time,
// in the order in which they were let go of. All but the release itself is with the loop held. To let go of a
// file allocates nothing and cannot fail: its place in the queue was made with it. It counts in its budget
// until it is gone, so that the budget bounds what waits, and storage that hangs costs the worker new files,
// which are smbd's then. Of files that were never taken, and count nowhere, some wait; more are closed here,
// and so is all of it without start(). A file that nobody has let go of when the process is killed is the
// kernel's.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::workers {

class Budget;

class FileCloser {
 public:
  /// A descriptor, or a mapping, of a file.
  struct File {
    shm::UniqueFd fd;
    std::span<std::byte> mapped;
    Budget* budget;
    uint64_t charged;
  };
  using Release = std::function<void(File&)>;

  static void let_go(File& file);

  /// release: of tests. In the thread; throws nothing.
  explicit FileCloser(Release release = let_go);
  FileCloser(const FileCloser&) = delete;
  FileCloser& operator=(const FileCloser&) = delete;
  /// Waits for the one that the thread is at, without which the process could not end either; what is behind
  /// it goes here: no client is left that would wait.
  ~FileCloser();

  /// The thread, which has the credentials and the filter of the caller.
  [[nodiscard]] shm::Result<> start();

  /// Of a file that is not taken. Invalid: nothing.
  void close(shm::UniqueFd fd);
  /// What is gone counts no more: to be called before a budget is asked for room.
  void reclaim();

 private:
  friend class OpenFile;
  using Files = std::list<File>;  // as the owners have them, one in each: it moves without allocating

  static constexpr uint64_t kMostUntaken = 64;

  void take(Files& file);
  void run();

  const Release release_;
  std::unique_ptr<Budget> untaken_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Under mutex_.
  bool over_ = false;
  bool rests_ = false;
  Files waiting_, gone_;
};

/// Owns one that was taken.
class OpenFile {
 public:
  OpenFile() = default;
  /// charged, of the budget, for it.
  OpenFile(FileCloser& closer, shm::UniqueFd fd, Budget& budget, uint64_t charged = 1);
  OpenFile(FileCloser& closer, std::span<std::byte> mapped, Budget& budget, uint64_t charged);
  OpenFile(OpenFile&& other) noexcept : closer_(other.closer_) { file_.swap(other.file_); }
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile() { reset(); }

  [[nodiscard]] int get() const { return file_.empty() ? -1 : file_.front().fd.get(); }
  void reset() {
    if (!file_.empty()) closer_->take(file_);
  }
  /// The same, before it returns: of what somebody else has open still, so that it takes no time.
  void reset_here();

 private:
  FileCloser* closer_ = nullptr;
  FileCloser::Files file_;  // one or none
};

}  // namespace smbdirect::workers
