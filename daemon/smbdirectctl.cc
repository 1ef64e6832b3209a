// SPDX-License-Identifier: MIT
// smbdirectctl: wiring only.
#include <cstdio>
#include <string>
#include <unistd.h>

#include "daemon/build_paths.h"
#include "daemon/ctl/client.h"
#include "daemon/ctl/doctor/doctor.h"
#include "daemon/ctl/doctor/real_host.h"
#include "daemon/ctl/metrics/families.h"
#include "daemon/ctl/metrics/scrape.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/render.h"
#include "daemon/ctl/top/top.h"

namespace smbdirect::daemon {
namespace {

constexpr int kRuntime = 1;
constexpr int kUsage = 2;

int complain(int status, const std::string& text) {
  std::fprintf(stderr, "smbdirectctl: %s\n", text.c_str());
  return status;
}

/// Exit status 0 says that all of it was written.
int print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return 0;
  return complain(kRuntime, "cannot write the answer to standard output");
}

int examine(const CtlOptions& options) {
  doctor::RealHost host;
  const doctor::Diagnosis diagnosis = doctor::diagnose(host, options.doctor, options.json);
  if (const int status = print(diagnosis.text); status != 0) return status;
  return diagnosis.healthy ? 0 : kRuntime;
}

int show_metrics(const CtlOptions& options) {
  const auto families = metrics::scrape(options.socket);
  if (!families) return complain(kRuntime, families.error());
  return print(options.json ? metrics::metrics_json(*families) : metrics::metrics_text(*families));
}

int show_top(const CtlOptions& options) {
  const bool draw = !options.once && !options.json && isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
  if (draw) {
    const auto ended = top::watch(options.socket);
    return ended ? 0 : complain(kRuntime, ended.error().text());
  }
  const auto text = top::once(options.socket, options.json);
  return text ? print(*text) : complain(kRuntime, text.error().text());
}

int run(int argc, char** argv) {
  const auto options = parse_ctl_options(argc, argv);
  if (!options) return complain(kUsage, options.error());
  if (options->help) return print(ctl_help_text());
  if (options->version) return print("smbdirectctl " + std::string(kVersion) + "\n");
  if (options->own) {
    switch (*options->own) {
      case OwnCommand::doctor:
        return examine(*options);
      case OwnCommand::top:
        return show_top(*options);
      case OwnCommand::metrics:
        return show_metrics(*options);
    }
  }
  const auto answer = ask_daemon(options->socket, options->request);
  if (!answer) return complain(kRuntime, answer.error().text());
  const auto text = render(options->request, *answer, options->json);
  if (!text) return complain(kRuntime, text.error());
  return print(*text);
}

}  // namespace
}  // namespace smbdirect::daemon

int main(int argc, char** argv) { return smbdirect::daemon::run(argc, argv); }
