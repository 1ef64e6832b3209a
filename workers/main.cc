// SPDX-License-Identifier: MIT
// smbdirect-worker: wiring only. Started by smbdirectd; the contract is daemon/contract/contract.h.
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <getopt.h>
#include <signal.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/contract/contract.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/memfd.h"
#include "workers/process/confinement.h"
#include "workers/process/privileges.h"
#include "workers/process/thread_pool.h"
#include "workers/worker.h"

namespace {

using smbdirect::daemon::ExitCode;
using smbdirect::daemon::WorkerConfig;
namespace log = smbdirect::shm::log;

struct Arguments {
  unsigned slot = 0;
  unsigned generation = 0;
};

Arguments parse(int argc, char** argv) {
  static const std::array<option, 3> kOptions{{{"slot", required_argument, nullptr, 's'},
                                               {"generation", required_argument, nullptr, 'g'},
                                               {nullptr, 0, nullptr, 0}}};
  Arguments arguments;
  for (int c = 0; (c = getopt_long(argc, argv, "", kOptions.data(), nullptr)) != -1;) {
    if (c == 's') arguments.slot = static_cast<unsigned>(std::strtoul(optarg, nullptr, 10));
    if (c == 'g') arguments.generation = static_cast<unsigned>(std::strtoul(optarg, nullptr, 10));
  }
  return arguments;
}

smbdirect::shm::Result<WorkerConfig> read_config() {
  constexpr size_t kLongest = 1 << 20;
  const auto text = smbdirect::shm::read_sealed_text(smbdirect::daemon::kConfigFd, kLongest);
  if (!text) return std::unexpected(text.error());
  return WorkerConfig::from_json(*text);
}

int leave(ExitCode code, const smbdirect::shm::Error& error) {
  log::write(log::Level::error, "%s", error.text().c_str());
  return static_cast<int>(code);
}

bool is_socket(int fd) {
  struct stat facts{};
  return ::fstat(fd, &facts) == 0 && S_ISSOCK(facts.st_mode);
}

void check_locked_memory(const WorkerConfig& config, uint64_t limit) {
  uint64_t most = config.buffered_bytes_per_worker;
  if (config.upstream == WorkerConfig::Upstream::native) most += config.native_area_bytes_per_worker;
  if (limit >= most) return;
  log::write(
      log::Level::warning,
      "only %llu bytes may be locked in memory, but RDMA devices lock all that is registered with them, up "
      "to "
      "%llu bytes: connections will fail beyond the limit (raise LimitMEMLOCK of the unit, or lower /limits/"
      "buffered_bytes_per_worker and, with mode \"channel\", /upstream/channel/area_bytes_per_worker)",
      static_cast<unsigned long long>(limit), static_cast<unsigned long long>(most));
}

/// READs and WRITEs of files themselves.
bool does_direct(const WorkerConfig& config) {
  return config.direct && config.upstream != WorkerConfig::Upstream::native;
}

ExitCode serve(uv_loop_t& loop, unsigned slot, unsigned generation, const WorkerConfig& config) {
  smbdirect::workers::Worker worker(loop, smbdirect::shm::UniqueFd(smbdirect::daemon::kControlFd),
                                    {.slot = slot, .generation = generation}, config);
  if (config.verbs) {
    if (const auto opened = worker.open_verbs(); !opened) {
      return static_cast<ExitCode>(leave(ExitCode::environment, opened.error()));
    }
  }
  if (does_direct(config)) {
    if (const auto started = worker.start_threads(); !started)
      return static_cast<ExitCode>(leave(ExitCode::environment, started.error()));
  }
  if (const auto confined = smbdirect::workers::confine(
          {.dials = config.upstream == WorkerConfig::Upstream::connect, .verbs = config.verbs});
      !confined) {
    return static_cast<ExitCode>(leave(ExitCode::environment, confined.error()));
  }
  worker.show_scoreboard();
  worker.announce_ready();
  return worker.run();
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  log::configure(log::Level::info, "worker " + std::to_string(arguments.slot));
  if (!is_socket(smbdirect::daemon::kControlFd)) {
    std::fprintf(stderr, "smbdirect-worker is started by smbdirectd and cannot be started by hand\n");
    return static_cast<int>(ExitCode::configuration);
  }
  const auto config = read_config();
  if (!config) return leave(ExitCode::configuration, config.error());
  log::configure(config->log_level, "worker " + std::to_string(arguments.slot));
  if (config->verbs) check_locked_memory(*config, smbdirect::workers::raise_locked_memory_limit());
  if (const auto dropped = smbdirect::workers::drop_privileges(config->user); !dropped) {
    return leave(ExitCode::environment, dropped.error());
  }
  // The supervisor decides about ends; a Ctrl-C reaches the whole process group.
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGQUIT, SIG_IGN);
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // a file that is too large is an error of that WRITE
  ::signal(SIGHUP, SIG_IGN);

  smbdirect::workers::configure_heap();
  if (does_direct(*config)) smbdirect::workers::raise_descriptor_limit();
  if (const auto without = smbdirect::workers::do_without_io_uring(); !without) {
    return leave(ExitCode::environment, without.error());
  }
  if (does_direct(*config)) {
    if (const auto started = smbdirect::workers::start_thread_pool(); !started)
      return leave(ExitCode::environment, started.error());
  }
  try {
    smbdirect::shm::Loop loop;
    // RDMA descriptors work only under the credentials that opened them: from here on these never change.
    return static_cast<int>(serve(*loop.get(), arguments.slot, arguments.generation, *config));
  } catch (const std::exception& error) {
    return leave(ExitCode::environment, {.what = error.what()});
  }
}
