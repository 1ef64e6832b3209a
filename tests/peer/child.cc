// SPDX-License-Identifier: MIT
#include "child.h"

#include <array>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <poll.h>
#include <sys/signalfd.h>

#include "passing.h"
#include "serving.h"

namespace smbdirect::tests::peer {

int run_child(const smbdirect_start& start, Fd opened, const Options& options) {
  stop_if_at(options, Label::started);
  smbdirect_channel* raw = nullptr;
  if (const int error = smbdirect_channel_open(&start, &raw); error < 0) {
    std::fprintf(stderr, "start %" PRIu64 ": opening the channel: %s\n", start.number, std::strerror(-error));
    return 1;
  }
  ChannelPtr channel(raw);
  (void)!::write(opened.get(), "o", 1);
  opened = Fd();
  stop_if_at(options, Label::opened);
  if (!options.pass_to.empty()) {
    if (const auto passed = pass_on(std::move(channel), options); !passed) {
      std::fprintf(stderr, "start %" PRIu64 ": %s\n", start.number, passed.error().c_str());
      return 1;
    }
    return 0;
  }
  Serving serving(options);
  serving.add(std::move(channel));
  while (!serving.empty()) serving.turn({});
  return 0;
}

int run_adopter(const Options& options) {
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::sigaddset(&ends, SIGINT);
  (void)::sigprocmask(SIG_BLOCK, &ends, nullptr);
  const Fd signals(::signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK));
  const auto listening = listen_for_channels(options.adopt);
  if (!signals || !listening) {
    std::fprintf(stderr, "%s\n", listening ? "signalfd" : listening.error().c_str());
    return 1;
  }
  std::puts("ready");
  (void)std::fflush(stdout);
  Serving serving(options);
  while (true) {
    std::array<pollfd, 2> others{{{.fd = signals.get(), .events = POLLIN, .revents = 0},
                                  {.fd = listening->get(), .events = POLLIN, .revents = 0}}};
    serving.turn(others);
    if (others[0].revents != 0) return 0;
    if (others[1].revents == 0) continue;
    if (auto channel = adopt_one(listening->get()); channel) {
      serving.add(std::move(*channel));
    } else {
      std::fprintf(stderr, "%s\n", channel.error().c_str());
    }
  }
}

}  // namespace smbdirect::tests::peer
