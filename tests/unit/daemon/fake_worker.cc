// SPDX-License-Identifier: MIT
// A worker that speaks the contract and nothing else, for tests of the supervisor. On each connection it
// is granted it says "slot=S pid=P generation=G", then echoes. FAKE_WORKER chooses how it behaves: a list
// of WHO=MODE, first match wins; WHO is sN (slot N), gN (generation N) or * (all). MODEs:
//   never      is never ready             exit0, exit1, exit2  ends at once with that status
//   crash      aborts once ready          deaf          is ready, then reads nothing
//   slow       takes after 300 ms         late          takes after 1.5 s: too late
//   refuse     refuses every offer        die           ends when it gets an offer
//   silent     answers no offer           garbage       sends a malformed message once ready
//   foreign    sends a supervisor's message once ready
//   stubborn   ignores STOP               dumb          answers no ping
//   stale      sends messages of another generation, and CLOSED for connections it never had
// A client that says "login" has a session from then on.
#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "daemon/contract/contract.h"
#include "shm/memfd.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

uint64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000 + uint64_t(now.tv_nsec) / 1'000'000;
}

std::string mode_of(const std::string& slot, const std::string& generation) {
  const char* list = std::getenv("FAKE_WORKER");
  std::string text = list == nullptr ? "" : list;
  while (!text.empty()) {
    const std::string entry = text.substr(0, text.find(','));
    text.erase(0, entry.size() + 1);
    const size_t equal = entry.find('=');
    const std::string who = entry.substr(0, equal);
    if (who == "*" || who == "s" + slot || who == "g" + generation) return entry.substr(equal + 1);
  }
  return "ready";
}

class Worker {
 public:
  Worker(std::string slot, std::string generation)
      : slot_(std::move(slot)), generation_(std::move(generation)), mode_(mode_of(slot_, generation_)) {}

  int run() {
    if (mode_.starts_with("exit")) return mode_[4] - '0';
    const auto text = shm::read_sealed_text(kConfigFd, 1 << 20);
    if (!text || !WorkerConfig::from_json(*text)) return 2;
    if (mode_ == "never") wait_forever();
    say(message::Ready{});
    if (mode_ == "crash") std::abort();
    if (mode_ == "deaf") wait_forever();
    if (mode_ == "garbage" && send(kControlFd, "rubbish", 7, MSG_NOSIGNAL) != 7) return 1;
    if (mode_ == "foreign" && !send_message(kControlFd, generation(), message::Offer{{1_c}, {}})) return 1;
    while (!done()) {
      if (!step()) return 1;
    }
    return 0;
  }

 private:
  [[noreturn]] static void wait_forever() {
    for (;;) pause();
  }
  [[nodiscard]] uint32_t generation() const { return uint32_t(std::stoul(generation_)); }
  void say(const FromWorker& said) const {
    if (const auto sent = send_message(kControlFd, generation(), said); !sent && !alone_) std::abort();
  }
  [[nodiscard]] bool done() const { return stopped_ || ((draining_ || alone_) && connections_.empty()); }

  bool step() {
    std::vector<pollfd> polls{{.fd = alone_ ? -1 : kControlFd, .events = POLLIN, .revents = 0}};
    std::vector<uint64_t> numbers;
    for (const auto& [number, fd] : connections_) {
      polls.push_back({.fd = fd.get(), .events = POLLIN, .revents = 0});
      numbers.push_back(number);
    }
    int timeout = -1;
    if (!delayed_.empty()) {
      const uint64_t due = delayed_.begin()->first, now = now_ms();
      timeout = due > now ? int(due - now) : 0;
    }
    if (poll(polls.data(), polls.size(), timeout) < 0 && errno != EINTR) return false;
    for (size_t i = 1; i < polls.size(); ++i) {
      if (polls[i].revents != 0) echo(numbers[i - 1]);
    }
    while (!delayed_.empty() && delayed_.begin()->first <= now_ms()) {
      say(message::Take{{shm::ConnectionId{delayed_.begin()->second}}});
      std::fprintf(stderr, "fake worker %s: took %llu\n", slot_.c_str(),
                   static_cast<unsigned long long>(delayed_.begin()->second));
      delayed_.erase(delayed_.begin());
    }
    return polls[0].revents == 0 || hear();
  }

  void echo(uint64_t number) {
    std::array<char, 512> bytes;
    const ssize_t got = recv(connections_[number].get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (std::string_view(bytes.data(), got > 0 ? size_t(got) : 0).starts_with("login")) {
      say(message::SessionUp{{shm::ConnectionId{number}}});
    }
    if (got > 0 && send(connections_[number].get(), bytes.data(), size_t(got), MSG_NOSIGNAL) == got) return;
    connections_.erase(number);
    say(message::Closed{{shm::ConnectionId{number}}});
  }

  bool hear() {
    auto received = receive_message<FromSupervisor>(kControlFd);
    if (!received) {
      alone_ = true;  // the supervisor is gone
      return received.error().system_errno == ECONNRESET;
    }
    if (!*received) return true;
    if ((*received)->generation != generation()) return false;
    return smbdirect::daemon::hear(
        (*received)->message,
        [&](const message::Offer& m) { return offered(std::to_underlying(m.connection)); },
        [&](const message::Grant& m) {
          return granted(std::to_underlying(m.connection), std::move((*received)->descriptor));
        },
        [&](const message::End& m) {
          if (connections_.erase(std::to_underlying(m.connection)) > 0) say(message::Closed{{m.connection}});
          return true;
        },
        [&](const message::LogLevel& m) {
          std::fprintf(stderr, "fake worker %s: log level %d\n", slot_.c_str(), int(m.level));
          return true;
        },
        [&](const message::Ping& m) {
          if (mode_ != "dumb") say(message::Pong{{m.sequence}});
          return true;
        },
        [&](const message::Drain&) { return draining_ = true; },
        [&](const message::Stop&) {
          stopped_ = mode_ != "stubborn";
          return true;
        },
        [&](const message::Dump&) {
          std::fprintf(stderr, "fake worker %s: dump with %zu connections\n", slot_.c_str(),
                       connections_.size());
          return true;
        },
        [](const message::AdoptionSocket&) { return true; },  // this one is not to be found
        [](const auto&) { return false; });
  }

  bool offered(uint64_t number) {
    if (mode_ == "die") _exit(1);
    if (mode_ == "silent") return true;
    if (mode_ == "refuse" || draining_) {
      say(message::Refuse{{shm::ConnectionId{number}}});
      return true;
    }
    if (mode_ == "slow" || mode_ == "late") {
      delayed_.emplace(now_ms() + (mode_ == "slow" ? 300 : 1500), number);
      return true;
    }
    if (mode_ == "stale") {
      if (!send_message(kControlFd, 4'000'000, message::Take{{shm::ConnectionId{number}}})) return false;
      for (const uint64_t other : {number, number + 1, number + 1000}) {
        say(message::Closed{{shm::ConnectionId{other}}});
      }
    }
    say(message::Take{{shm::ConnectionId{number}}});
    return true;
  }

  bool granted(uint64_t number, shm::UniqueFd fd) {
    const std::string line =
        "slot=" + slot_ + " pid=" + std::to_string(getpid()) + " generation=" + generation_ + "\n";
    if (send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL) == ssize_t(line.size())) {
      connections_.emplace(number, std::move(fd));
    } else {
      say(message::Closed{{shm::ConnectionId{number}}});
    }
    return true;
  }

  std::string slot_;
  std::string generation_;
  std::string mode_;
  std::map<uint64_t, shm::UniqueFd> connections_;
  std::multimap<uint64_t, uint64_t> delayed_;  // when -> offer to take
  bool draining_ = false;
  bool stopped_ = false;
  bool alone_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  // The contract's command line, exactly.
  if (argc != 5 || std::strcmp(argv[1], "--slot") != 0 || std::strcmp(argv[3], "--generation") != 0) return 2;
  return Worker(argv[2], argv[4]).run();
}
