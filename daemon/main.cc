// SPDX-License-Identifier: MIT
// smbdirectd: wiring only. Each phase needs what the one before it made.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
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
#include "daemon/takeover/former_daemon.h"
#include "daemon/takeover/successor.h"
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

/// As complain(); a daemon that waits for this one to take over hears of it.
int complain(ExitCode code, const std::string& text, FormerDaemon* former) {
  if (former != nullptr) former->failed(text);
  return complain(code, text);
}

shm::Result<PidFile> hold_pid_file(const CommandLine& line, FormerDaemon* former) {
  if (line.pid_file.empty()) return PidFile{};
  if (former != nullptr && former->inheritance().pid_file.path == line.pid_file)
    return PidFile::inherit(line.pid_file, std::move(former->inheritance().pid_file.file));
  return PidFile::hold(line.pid_file);
}

/// What init told us, a helper's successor does not hear either.
OwnProgram program_again(const CommandLine& line, uint64_t watchdog_ms) {
  std::error_code ignored;
  OwnProgram own{.path = std::filesystem::read_symlink("/proc/self/exe", ignored).string(),
                 .arguments = arguments_again(line),
                 .environment = {}};
  if (!line.helper()) own.environment.emplace_back("NOTIFY_SOCKET");
  if (watchdog_ms > 0) own.environment.emplace_back("WATCHDOG_USEC");
  return own;
}

int serve_with(PoolConfig config, CommandLine line, Launcher launcher, std::unique_ptr<FormerDaemon> former) {
  if (const auto program = check_worker_program(line.worker_program); !program)
    return complain(ExitCode::environment, program.error().text(), former.get());
  if (const auto settled = settle(line, launcher); !settled)
    return complain(ExitCode::environment, settled.error().text(), former.get());
  log::configure(config.worker.log_level, "smbdirectd");
  prepare_process(config.worker.connections);
  auto pid_file = hold_pid_file(line, former.get());
  if (!pid_file) return complain(ExitCode::environment, pid_file.error().text(), former.get());
  // A helper reports to the program that started it, not to the systemd that started that.
  const uint64_t watchdog_ms = line.helper() ? 0
                                             : watchdog_interval_ms(std::getenv("WATCHDOG_USEC"),
                                                                    std::getenv("WATCHDOG_PID"), getpid());
  Supervisor::Options options{line.worker_program,
                              [line] { return read_again(line); },
                              std::move(launcher),
                              SdNotify(line.helper() ? nullptr : std::getenv("NOTIFY_SOCKET")),
                              watchdog_ms,
                              std::move(*pid_file),
                              program_again(line, watchdog_ms),
                              std::move(former)};
  if (geteuid() == 0 && config.worker.user.empty()) {
    log::write(log::Level::warning,
               "workers will run as root: %s names no /user, and there is no user \"%s\"; add either",
               line.config_file.c_str(), kWorkersUser.data());
  }
  auto supervisor = Supervisor::create(std::move(config), std::move(options));
  if (!supervisor) return complain(ExitCode::environment, supervisor.error().text());
  return int((*supervisor)->run());
}

/// The problems are in the log, and told to whom it may concern.
std::optional<PoolConfig> read_config(const CommandLine& line, FormerDaemon* former = nullptr) {
  auto config = read_again(line);
  if (config) return std::move(*config);
  for (const std::string& problem : config.error()) complain(ExitCode::configuration, problem);
  if (former != nullptr) former->failed("the pool file is wrong", config.error());
  return std::nullopt;
}

int serve(const CommandLine& line) {
  std::unique_ptr<FormerDaemon> former;
  auto launcher = Launcher::take(line);
  if (!launcher) return complain(ExitCode::configuration, launcher.error().text());
  if (line.take_over_fd) {
    auto met = FormerDaemon::meet(launcher->take_former(), std::string(kVersion));
    if (!met) return complain(ExitCode::environment, met.error().text());
    former = std::move(*met);
  }
  auto config = read_config(line, former.get());
  if (!config) return int(ExitCode::configuration);
  return serve_with(std::move(*config), line, std::move(*launcher), std::move(former));
}

int run(int argc, char** argv) {
  const auto line = parse_command_line(argc, argv);
  if (!line) return complain(ExitCode::configuration, line.error());
  if (line->help) return std::fputs(help_text().c_str(), stdout) < 0;
  if (line->version) return std::printf("smbdirectd %s\n", kVersion.data()) < 0;
  if (line->check_config || line->dump_config) {
    const auto config = read_config(*line);
    if (!config) return int(ExitCode::configuration);
    if (line->check_config) return std::printf("%s: ok\n", line->config_file.c_str()) < 0;
    return std::fputs(dump_pool(*config).c_str(), stdout) < 0;
  }
  return serve(*line);
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
