// SPDX-License-Identifier: MIT
// smbdirectd: wiring only. Each phase needs what the one before it made.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <unistd.h>
#include <utility>

#include "daemon/build_paths.h"
#include "daemon/config/pool_file.h"
#include "daemon/options.h"
#include "daemon/process_setup.h"
#include "daemon/supervisor.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

int complain(ExitCode code, const std::string& text) {
  log::write(log::Level::error, "%s", text.c_str());
  return int(code);
}

std::expected<PoolConfig, Problems> load(const std::string& file) {
  auto config = load_pool(file);
  if (!config) return config;
  if (Problems problems = check_user(*config); !problems.empty()) return std::unexpected(std::move(problems));
  return config;
}

int serve(PoolConfig config, const CommandLine& line) {
  log::configure(config.worker.log_level, "smbdirectd");
  prepare_process(config.worker.connections);
  if (const auto program = check_worker_program(line.worker_program); !program) {
    return complain(ExitCode::environment, program.error().text());
  }
  Supervisor::Options options{line.worker_program, {}, SdNotify(std::getenv("NOTIFY_SOCKET"))};
  if (line.ready_fd) {
    auto fd = take_ready_fd(*line.ready_fd);
    if (!fd) return complain(ExitCode::configuration, fd.error().text());
    options.ready_fd = std::move(*fd);
  }
  if (geteuid() == 0 && config.worker.user.empty()) {
    log::write(log::Level::warning, "workers will run as root; name an unprivileged /user in %s",
               line.config_file.c_str());
  }
  auto supervisor = Supervisor::create(std::move(config), std::move(options));
  if (!supervisor) return complain(ExitCode::environment, supervisor.error().text());
  return int((*supervisor)->run());
}

int run(int argc, char** argv) {
  const auto line = parse_command_line(argc, argv);
  if (!line) return complain(ExitCode::configuration, line.error());
  if (line->help) return std::fputs(help_text().c_str(), stdout) < 0;
  if (line->version) return std::printf("smbdirectd %s\n", kVersion.data()) < 0;
  auto config = load(line->config_file);
  if (!config) {
    for (const Problem& problem : config.error())
      complain(ExitCode::configuration, problem_text(line->config_file, problem));
    return int(ExitCode::configuration);
  }
  if (line->check_config) return std::printf("%s: ok\n", line->config_file.c_str()) < 0;
  if (line->dump_config) return std::fputs(dump_pool(*config).c_str(), stdout) < 0;
  return serve(std::move(*config), *line);
}

int guarded(int argc, char** argv) {
  ensure_standard_descriptors();
  log::configure(log::Level::info, "smbdirectd");
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return complain(ExitCode::environment, std::string("cannot start: ") + error.what());
  }
}

}  // namespace
}  // namespace smbdirect::daemon

int main(int argc, char** argv) { return smbdirect::daemon::guarded(argc, argv); }
