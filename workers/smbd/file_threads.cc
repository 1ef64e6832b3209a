// SPDX-License-Identifier: MIT
#include "workers/smbd/file_threads.h"

#include <algorithm>
#include <utility>

namespace smbdirect::workers {

FileThreads::~FileThreads() {
  for (Job* job : jobs_) {
    // What has not begun never will; its callback comes all the same, and finds nobody.
    if (uv_cancel(reinterpret_cast<uv_req_t*>(&job->request)) != 0) {
      std::unique_lock lock(mutex_);
      ran_.wait(lock, [job] { return job->ran; });
    }
    job->owner = nullptr;
    job->work.reset();
    job->keeps.reset();
  }
}

bool FileThreads::begin(std::unique_ptr<FileWork>& work) {
  if (!room()) return false;
  std::unique_ptr<Job> job;
  if (spare_.empty()) {
    job = std::make_unique<Job>();
  } else {
    job = std::move(spare_.back());
    spare_.pop_back();
  }
  job->request.data = job.get();
  job->owner = this;
  job->abandoned = job->ran = false;
  job->work = std::move(work);
  if (uv_queue_work(&loop_, &job->request, run, after) != 0) {
    work = std::move(job->work);
    return false;
  }
  jobs_.push_back(job.release());
  return true;
}

void FileThreads::run(uv_work_t* request) {
  auto* job = static_cast<Job*>(request->data);
  job->work->run();
  // Under the lock to its end: who waits for it destroys this as soon as it may.
  const std::lock_guard lock(job->owner->mutex_);
  job->ran = true;
  job->owner->ran_.notify_one();
}

void FileThreads::after(uv_work_t* request, int /*status*/) {
  std::unique_ptr<Job> job(static_cast<Job*>(request->data));
  FileThreads* owner = job->owner;
  if (owner == nullptr) return;
  std::erase(owner->jobs_, job.get());
  auto work = std::move(job->work);
  job->keeps.reset();
  const bool told = !job->abandoned;
  owner->spare_.push_back(std::move(job));
  if (!told) return;
  FileWork& itself = *work;
  itself.done(std::move(work));
}

void FileThreads::abandon(FileWork& work, const std::shared_ptr<const shm::UniqueFd>& keeps) {
  const auto at = std::ranges::find_if(jobs_, [&](const Job* job) { return job->work.get() == &work; });
  if (at == jobs_.end()) return;
  (*at)->abandoned = true;
  // What has not begun never will: a client that has come again must not find its new data written over.
  if (uv_cancel(reinterpret_cast<uv_req_t*>(&(*at)->request)) != 0) (*at)->keeps = keeps;
  work.recharge(abandoned_);
}

}  // namespace smbdirect::workers
