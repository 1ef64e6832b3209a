// SPDX-License-Identifier: MIT
#include "workers/memory/file_closer.h"

#include <sys/mman.h>
#include <system_error>
#include <utility>

#include "workers/memory/slab.h"

namespace smbdirect::workers {

FileCloser::FileCloser(Release release)
    : release_(std::move(release)), untaken_(std::make_unique<Budget>(kMostUntaken)) {}

FileCloser::~FileCloser() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (File& file : waiting_) release_(file);
  gone_.splice(gone_.end(), waiting_);
  reclaim();
}

shm::Result<> FileCloser::start() {
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return shm::fail("a thread that closes files", error.code().value());
  }
  return {};
}

void FileCloser::close(shm::UniqueFd fd) {
  if (!fd.valid()) return;
  reclaim();
  if (!thread_.joinable() || !untaken_->charge(1)) return;  // closed here
  const OpenFile goes(*this, std::move(fd), *untaken_);
}

void FileCloser::let_go(File& file) {
  file.fd.reset();
  if (!file.mapped.empty()) ::munmap(file.mapped.data(), file.mapped.size());
}

void FileCloser::take(Files& file) {
  if (!thread_.joinable()) {
    release_(file.front());
    file.front().budget->refund(file.front().charged);
    return file.clear();
  }
  const std::lock_guard lock(mutex_);
  waiting_.splice(waiting_.end(), file);
  if (std::exchange(rests_, false)) changed_.notify_one();
}

void FileCloser::reclaim() {
  Files gone;
  {
    const std::lock_guard lock(mutex_);
    gone.swap(gone_);
  }
  for (const File& file : gone) file.budget->refund(file.charged);
}

void FileCloser::run() {
  std::unique_lock lock(mutex_);
  while (!over_) {
    if (waiting_.empty()) {
      rests_ = true;
      changed_.wait(lock, [this] { return over_ || !rests_; });
      continue;
    }
    Files one;
    one.splice(one.end(), waiting_, waiting_.begin());
    lock.unlock();
    release_(one.front());
    lock.lock();
    gone_.splice(gone_.end(), one);
  }
}

OpenFile::OpenFile(FileCloser& closer, shm::UniqueFd fd, Budget& budget, uint64_t charged)
    : closer_(&closer) {
  file_.push_back({.fd = std::move(fd), .mapped = {}, .budget = &budget, .charged = charged});
}

OpenFile::OpenFile(FileCloser& closer, std::span<std::byte> mapped, Budget& budget, uint64_t charged)
    : closer_(&closer) {
  file_.push_back({.fd = {}, .mapped = mapped, .budget = &budget, .charged = charged});
}

void OpenFile::reset_here() {
  if (file_.empty()) return;
  FileCloser::let_go(file_.front());
  file_.front().budget->refund(file_.front().charged);
  file_.clear();
}

}  // namespace smbdirect::workers
