// SPDX-License-Identifier: MIT
#include "workers/smbd/file_threads.h"

#include <algorithm>
#include <utility>

namespace smbdirect::workers {

namespace {

/// The loop's own stands while something holds it up.
uint64_t true_time_ms() { return uv_hrtime() / 1'000'000; }

}  // namespace

FileThreads::~FileThreads() {
  for (Job* job : jobs_) {
    if (job->quick) {
      const std::unique_ptr<Job> dies(job);
      continue;
    }
    // What has not begun never will; its callback comes all the same, and finds nobody.
    if (!cancel(*job)) {
      std::unique_lock lock(mutex_);
      ran_.wait(lock, [job] { return job->ran; });
    }
    job->owner = nullptr;
    job->work.reset();
    job->keeps.reset();
  }
}

bool FileThreads::begin(std::unique_ptr<FileWork>& work, std::optional<dev_t> quick) {
  if (!room()) return false;
  if (quick && (relief_ == nullptr || !pace_.quick(*quick, uv_now(&loop_)) || !relief_->room()))
    quick.reset();
  if (!quick && taken_up_) return false;
  std::unique_ptr<Job> job;
  if (spare_.empty()) {
    job = std::make_unique<Job>();
  } else {
    job = std::move(spare_.back());
    spare_.pop_back();
  }
  job->owner = this;
  job->abandoned = job->ran = job->begun = job->cancelled = false;
  job->work = std::move(work);
  job->quick = quick;
  if (job->quick) {
    relief_->aside(*job);
  } else {
    begin_in_thread(*job);
  }
  jobs_.push_back(job.release());
  return true;
}

void FileThreads::begin_in_thread(Job& job) {
  job.request.data = &job;
  job.waits_since_ms = true_time_ms();
  uv_queue_work(&loop_, &job.request, run, after);  // fails for want of a callback only
  if (std::exchange(watches_, true)) return;
  if (!patience_) patience_.emplace(loop_, [this] { on_patience(); });
  patience_->start(patience_ms_);
}

void FileThreads::on_patience() {
  const uint64_t now = true_time_ms();
  watches_ = false;
  uint64_t next = UINT64_MAX;
  for (Job* job : jobs_) {
    if (job->quick || job->begun || job->cancelled) continue;
    const uint64_t due = job->waits_since_ms + patience_ms_;
    if (due > now) {
      next = std::min(next, due - now);
    } else if (cancel(*job)) {
      job->cancelled = taken_up_ = true;  // its callback gives it back
    }
  }
  if (next == UINT64_MAX) return;
  watches_ = true;
  patience_->start(next);
}

/// True: it has not begun and never will, but its callback may come.
bool FileThreads::cancel(Job& job) {
  if (job.cancelled) return true;
  if (job.quick) return relief_->cancel(job);
  return uv_cancel(reinterpret_cast<uv_req_t*>(&job.request)) == 0;
}

/// The loop's own thread has done it, or cannot.
void FileThreads::over(Job& job, shm::LoopRelief::End end) {
  if (end == shm::LoopRelief::End::not_begun) {
    job.quick.reset();
    if (!taken_up_) return begin_in_thread(job);
    job.work->not_run();
    return finish(job);
  }
  ++between_turns_;
  if (end == shm::LoopRelief::End::held_up) {
    ++held_up_;
    pace_.held_up(*job.quick, uv_now(&loop_));
  }
  finish(job);
}

void FileThreads::run(uv_work_t* request) {
  auto* job = static_cast<Job*>(request->data);
  job->begun = true;
  job->work->run();
  // Under the lock to its end: who waits for it destroys this as soon as it may.
  const std::lock_guard lock(job->owner->mutex_);
  job->ran = true;
  job->owner->ran_.notify_one();
}

void FileThreads::after(uv_work_t* request, int status) {
  auto* job = static_cast<Job*>(request->data);
  if (job->owner != nullptr) {
    if (status == 0) {
      job->owner->taken_up_ = false;
    } else {
      job->work->not_run();
    }
    return job->owner->finish(*job);
  }
  const std::unique_ptr<Job> dies(job);
}

void FileThreads::finish(Job& job) {
  std::erase(jobs_, &job);
  if (jobs_.empty()) {
    taken_up_ = false;
    if (std::exchange(watches_, false)) patience_->stop();
  }
  std::unique_ptr<Job> own(&job);
  auto work = std::move(own->work);
  own->keeps.reset();
  const bool told = !own->abandoned;
  spare_.push_back(std::move(own));
  if (!told) return;
  FileWork& itself = *work;
  itself.done(std::move(work));
}

void FileThreads::abandon(FileWork& work, const std::shared_ptr<const shm::UniqueFd>& keeps) {
  const auto at = std::ranges::find_if(jobs_, [&](const Job* job) { return job->work.get() == &work; });
  if (at == jobs_.end()) return;
  Job& job = **at;
  job.abandoned = true;
  work.recharge(abandoned_);
  // What has not begun never will: a client that has come again must not find its new data written over.
  if (!cancel(job)) {
    job.keeps = keeps;
  } else if (job.quick) {
    finish(job);
  } else {
    job.cancelled = true;
  }
}

bool FileThreads::any_of(const std::function<bool(const FileWork&)>& such) const {
  return std::ranges::any_of(jobs_, [&](const Job* job) { return such(*job->work); });
}

}  // namespace smbdirect::workers
