// SPDX-License-Identifier: MIT
#include "workers/process/thread_pool.h"

#include <cerrno>
#include <cstdlib>
#include <string>

#include <uv.h>

namespace smbdirect::workers {

shm::Result<> start_thread_pool() {
  if (::setenv("UV_THREADPOOL_SIZE", std::to_string(kThreads).c_str(), 1) != 0)
    return shm::fail("UV_THREADPOOL_SIZE", errno);
  // The first job starts all of them, and a loop of its own hears of its end: the worker's hears nothing yet.
  uv_loop_t loop;
  if (const int made = uv_loop_init(&loop); made != 0) return shm::fail("a loop for threads", -made);
  uv_work_t nothing;
  const int queued = uv_queue_work(&loop, &nothing, [](uv_work_t*) {}, [](uv_work_t*, int) {});
  if (queued == 0) uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  if (queued != 0) return shm::fail("threads for reads and writes of files", -queued);
  return {};
}

}  // namespace smbdirect::workers
