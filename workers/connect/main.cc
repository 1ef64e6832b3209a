// SPDX-License-Identifier: MIT
// smbdirect-connect: carries SMB clients' TCP connections to an SMB Direct server.
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>

#include <uv.h>

#include "daemon/contract/contract.h"
#include "shm/base/log.h"
#include "shm/loop/loop.h"
#include "workers/connect/options.h"
#include "workers/connect/probe.h"
#include "workers/connect/program.h"
#include "workers/connect/stats.h"

namespace {

namespace connect = smbdirect::workers::connect;
namespace log = smbdirect::shm::log;
using connect::Options;
using smbdirect::daemon::ExitCode;

ExitCode run_probe(uv_loop_t& loop, const Options& options) {
  const auto agreed = connect::probe(loop, options);
  if (!agreed) {
    std::fprintf(stderr, "smbdirect-connect: %s\n", agreed.error().text().c_str());
    return ExitCode::runtime;
  }
  std::fputs(agreed->c_str(), stdout);
  return ExitCode::ok;
}

ExitCode serve(uv_loop_t& loop, const Options& options) {
  bool stopped = false;
  connect::Program program(loop, options, [&] { stopped = true; });
  if (const auto started = program.start(); !started) {
    std::fprintf(stderr, "smbdirect-connect: %s\n", started.error().text().c_str());
    return ExitCode::environment;
  }
  const smbdirect::shm::SignalWatch terminate(loop, SIGTERM, [&] { program.stop(); });
  const smbdirect::shm::SignalWatch interrupt(loop, SIGINT, [&] { program.stop(); });
  std::printf("listening on %s\n", program.address().c_str());
  std::fflush(stdout);
  while (!stopped) uv_run(&loop, UV_RUN_ONCE);
  const auto counters = program.counters();
  if (options.stats == Options::Stats::text) std::fputs(connect::stats_text(counters).c_str(), stdout);
  if (options.stats == Options::Stats::json) std::printf("%s\n", connect::stats_json(counters).c_str());
  return ExitCode::ok;
}

ExitCode run(int argc, char** argv) {
  const auto options = connect::parse_options(argc, argv);
  if (!options) {
    std::fprintf(stderr, "smbdirect-connect: %s\n", options.error().text().c_str());
    return ExitCode::configuration;
  }
  if (options->mode == Options::Mode::help) {
    std::fputs(connect::help_text().c_str(), stdout);
    return ExitCode::ok;
  }
  if (options->mode == Options::Mode::version) {
    std::puts("smbdirect-connect " SMBDIRECT_VERSION);
    return ExitCode::ok;
  }
  log::configure(options->log_level, "smbdirect-connect");
  (void)std::signal(SIGPIPE, SIG_IGN);
  smbdirect::workers::configure_heap();
  smbdirect::shm::Loop loop;
  return options->mode == Options::Mode::probe ? run_probe(*loop.get(), *options)
                                               : serve(*loop.get(), *options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return static_cast<int>(run(argc, argv));
  } catch (const std::exception& error) {
    // Thrown at the start only, by what cannot be made.
    std::fprintf(stderr, "smbdirect-connect: cannot start: %s\n", error.what());
    return static_cast<int>(ExitCode::environment);
  }
}
