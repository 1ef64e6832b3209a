// SPDX-License-Identifier: MIT
// smbdirect-exporter: wiring only. The HTTP server has its own threads; this one waits for the signal to end.
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <prometheus/exposer.h>
#include <string>
#include <vector>

#include "daemon/build_paths.h"
#include "daemon/exporter/options.h"
#include "daemon/exporter/pool_metrics.h"
#include "shm/base/log.h"

namespace smbdirect::daemon::exporter {
namespace {

namespace log = shm::log;

constexpr int kUsage = 2;
constexpr int kEnvironment = 3;

int serve(const Options& options) {
  // Before there are threads, so that they do not take them.
  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT}) sigaddset(&ends, signal);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  const auto pool = std::make_shared<PoolMetrics>(options.socket);
  prometheus::Exposer exposer(std::vector<std::string>{"listening_ports", options.listen, "num_threads", "16",
                                                       "request_timeout_ms", "2000"});
  exposer.RegisterCollectable(pool);
  const std::string host = options.listen.substr(0, options.listen.rfind(':'));
  for (const int port : exposer.GetListeningPorts())
    log::write(log::Level::notice, "serving http://%s:%d/metrics", host.c_str(), port);
  int signal = 0;
  sigwait(&ends, &signal);
  return 0;
}

int run(int argc, char** argv) {
  log::configure(log::Level::info, "smbdirect-exporter");
  const auto options = parse_options(argc, argv);
  if (!options) {
    std::fprintf(stderr, "smbdirect-exporter: %s\n", options.error().c_str());
    return kUsage;
  }
  if (options->help) return std::fputs(help_text().c_str(), stdout) < 0;
  if (options->version) return std::printf("smbdirect-exporter %s\n", kVersion.data()) < 0;
  try {
    return serve(*options);
  } catch (const std::exception& error) {
    log::write(
        log::Level::error,
        "cannot serve http://%s/metrics: %s; is the address this host's, and the port free? (--listen)",
        options->listen.c_str(), error.what());
    return kEnvironment;
  }
}

}  // namespace
}  // namespace smbdirect::daemon::exporter

int main(int argc, char** argv) { return smbdirect::daemon::exporter::run(argc, argv); }
