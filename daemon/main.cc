// SPDX-License-Identifier: MIT
// smbdirectd: wiring only. Each phase needs what the one before it made.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "daemon/build_paths.h"
#include "daemon/config/pool_file.h"
#include "daemon/launcher.h"
#include "daemon/load_config.h"
#include "daemon/options.h"
#include "daemon/os/background.h"
#include "daemon/os/pid_file.h"
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

/// A path that holds wherever the process is.
std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).string();
}

/// Where the log goes and, with -D, that the process is a daemon. Nothing: standard error stays what it is.
shm::Result<> settle(CommandLine& line, Launcher& launcher) {
  if (line.run == CommandLine::Run::interactive) {
    if (dup2(STDOUT_FILENO, STDERR_FILENO) < 0) return shm::fail("log to standard output", errno);
    return {};
  }
  const bool background = line.run == CommandLine::Run::background;
  if (!background && line.log_directory.empty()) return {};
  if (line.log_directory.empty()) line.log_directory = kDefaultLogDirectory;
  const std::string file = absolute(line.log_directory) + "/log.smbdirectd";
  const auto opened = open_log_file(file);
  if (!opened)
    return shm::fail(opened.error().text() + "; --log-basename names the directory, which has to exist");
  if (!background) {
    if (dup2(opened->get(), STDERR_FILENO) < 0) return shm::fail("log to " + file, errno);
    return {};
  }
  // It leaves the caller's directory, so that no file system is kept busy by it.
  for (std::string* path : {&line.config_file, &line.worker_program, &line.pid_file}) *path = absolute(*path);
  auto waiting = go_to_background(*opened, file, !line.no_process_group);
  if (!waiting) return std::unexpected(waiting.error());
  if (chdir("/") != 0) return shm::fail("change to /", errno);
  launcher.also_tells(std::move(*waiting));
  return {};
}

std::expected<PoolConfig, std::vector<std::string>> read_again(const CommandLine& line) {
  auto config = load_config(line);
  if (config) return std::move(*config);
  std::vector<std::string> texts;
  for (const Problem& problem : config.error()) texts.push_back(problem_text(line.config_file, problem));
  return std::unexpected(std::move(texts));
}

int serve(PoolConfig config, CommandLine line) {
  if (const auto program = check_worker_program(line.worker_program); !program) {
    return complain(ExitCode::environment, program.error().text());
  }
  auto launcher = Launcher::take(line);
  if (!launcher) return complain(ExitCode::configuration, launcher.error().text());
  if (const auto settled = settle(line, *launcher); !settled)
    return complain(ExitCode::environment, settled.error().text());
  log::configure(config.worker.log_level, "smbdirectd");
  prepare_process(config.worker.connections);
  auto pid_file = line.pid_file.empty() ? shm::Result<PidFile>(PidFile{}) : PidFile::hold(line.pid_file);
  if (!pid_file) return complain(ExitCode::environment, pid_file.error().text());
  // A helper reports to the program that started it, not to the systemd that started that.
  Supervisor::Options options{line.worker_program, [line] { return read_again(line); }, std::move(*launcher),
                              SdNotify(line.helper() ? nullptr : std::getenv("NOTIFY_SOCKET")),
                              line.helper() ? 0
                                            : watchdog_interval_ms(std::getenv("WATCHDOG_USEC"),
                                                                   std::getenv("WATCHDOG_PID"), getpid())};
  if (geteuid() == 0 && config.worker.user.empty()) {
    log::write(log::Level::warning,
               "workers will run as root: %s names no /user, and there is no user \"%s\"; add either",
               line.config_file.c_str(), kWorkersUser.data());
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
  auto config = load_config(*line);
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
