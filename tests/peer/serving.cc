// SPDX-License-Identifier: MIT
#include "serving.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <unistd.h>

namespace smbdirect::tests::peer {
namespace {

constexpr int kSoonMs = 50;

/// A descriptor nothing is wanted of is left out, or its hang-up would end every wait.
pollfd entry(int fd, short events) { return {.fd = events == 0 ? -1 : fd, .events = events, .revents = 0}; }

}  // namespace

void Serving::add(ChannelPtr channel) {
  // First smbd: a client whose channel is closed unattached is told at once.
  auto smbd = connect_smbd(options_.smbd);
  if (!smbd) return end({}, smbd.error());
  if (const int attached = smbdirect_channel_attach(channel.get()); attached < 0) {
    return end({}, std::string("attaching: ") + std::strerror(-attached));
  }
  if (options_.verbose) std::fprintf(stderr, "channel attached pid=%d\n", int(::getpid()));
  stop_if_at(options_, Label::attached);
  auto relay = std::make_unique<Relay>(std::move(channel), std::move(*smbd), [this](ChannelPtr another) {
    arrived_.push_back(std::move(another));
  });
  if (const auto begun = relay->begin(); !begun) return end(relay->totals(), begun.error());
  relays_.push_back(std::move(relay));
}

void Serving::turn(std::span<pollfd> others) {
  polled_.assign(others.begin(), others.end());
  int timeout = -1;
  for (const auto& relay : relays_) {
    const Relay::Wants wants = relay->wants();
    polled_.push_back({.fd = relay->channel_fd(), .events = wants.channel, .revents = 0});
    polled_.push_back(entry(relay->smbd_fd(), wants.smbd));
    if (wants.at_once) {
      timeout = 0;
    } else if (wants.soon && timeout < 0) {
      timeout = kSoonMs;
    }
  }
  if (::poll(polled_.data(), polled_.size(), timeout) < 0) {
    if (errno != EINTR) std::fprintf(stderr, "poll: %s\n", std::strerror(errno));
    for (pollfd& each : polled_) each.revents = 0;
  }
  std::copy_n(polled_.begin(), others.size(), others.begin());
  for (size_t i = 0; i < relays_.size(); ++i) {
    const pollfd* polled = &polled_[others.size() + 2 * i];
    if (const auto done = relays_[i]->turn(polled[0].revents, polled[1].revents); !done) {
      end(relays_[i]->totals(), done.error());
      relays_[i].reset();
    }
  }
  std::erase(relays_, nullptr);
  for (ChannelPtr& channel : std::exchange(arrived_, {})) add(std::move(channel));
}

void Serving::end(const Totals& totals, const std::string& cause) const {
  std::fprintf(stderr,
               "channel end pid=%d pdus_in=%" PRIu64 " pdus_out=%" PRIu64 " rdma_read=%" PRIu64 "/%" PRIu64
               " rdma_write=%" PRIu64 "/%" PRIu64 " cause=\"%s\"\n",
               int(::getpid()), totals.pdus_in, totals.pdus_out, totals.reads, totals.read_bytes,
               totals.writes, totals.write_bytes, cause.c_str());
}

}  // namespace smbdirect::tests::peer
