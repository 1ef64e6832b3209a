// SPDX-License-Identifier: MIT
// What a client's first message waits for in upstream mode "channel" before its process is known: the
// worker's CLAIM to the supervisor, and the answer. Two threads and a control socket between them, as between
// the two programs.
#include <memory>
#include <poll.h>
#include <sys/socket.h>
#include <thread>

#include <benchmark/benchmark.h>

#include "daemon/clients/client_registry.h"
#include "daemon/contract/contract.h"
#include "daemon/prefork/connection_table.h"
#include "shm/loop/borrowed_watch.h"

namespace smbdirect::tests::bench {
namespace {

namespace message = daemon::message;

constexpr shm::ConnectionId kConnection{1};
constexpr shm::WorkerRef kWorker{0, 1};

/// The supervisor's part of it, on a loop of its own; ends with the other end of the socket.
class Supervisor {
 public:
  explicit Supervisor(shm::UniqueFd control) : control_(std::move(control)) {
    table_.add(kConnection, 0, *shm::address_from_text("192.0.2.7", 40'000), {});
    clients_->worker_ready(kWorker);
    clients_->answer_with([this](size_t, shm::ConnectionId connection, daemon::ClaimOutcome outcome) {
      (void)daemon::send_message(control_.get(), kWorker.generation,
                                 message::Claimed{{connection}, {outcome}});
    });
    watch_.start();
  }
  void run() { loop_.run(); }

 private:
  void read() {
    while (true) {
      const auto received = daemon::receive_message<daemon::FromWorker>(control_.get());
      if (!received) {
        watch_.stop();
        return loop_.stop();
      }
      if (!*received) return;
      if (const auto* claim = std::get_if<message::Claim>(&(*received)->message)) {
        clients_->claimed(kWorker, claim->connection, claim->guid);
      } else {
        clients_->channel_down(kWorker, kConnection);
      }
    }
  }

  shm::Loop loop_;
  shm::UniqueFd control_;
  daemon::ConnectionTable table_{1};
  std::unique_ptr<daemon::ClientRegistry> clients_ =
      std::make_unique<daemon::ClientRegistry>(loop_, table_, *daemon::ClientRegistry::make_registry(1024));
  shm::ReadWatch watch_ = *shm::ReadWatch::make(loop_, control_.get(), [this] { read(); });
};

void claim_round_trip(benchmark::State& state) {
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return state.SkipWithError("socketpair");
  }
  shm::UniqueFd control(ends[0]);
  std::jthread supervisor([fd = ends[1]] { Supervisor(shm::UniqueFd(fd)).run(); });
  shm::Guid guid{};
  uint64_t number = 0;
  for (auto _ : state) {
    ++number;
    for (size_t i = 0; i < 8; ++i) guid.bytes[i] = std::byte(number >> 8 * i);
    (void)daemon::send_message(control.get(), kWorker.generation, message::Claim{{kConnection}, {guid}});
    pollfd readable{.fd = control.get(), .events = POLLIN, .revents = 0};
    (void)poll(&readable, 1, -1);
    const auto answer = daemon::receive_message<daemon::FromSupervisor>(control.get());
    const auto* claimed = answer && *answer ? std::get_if<message::Claimed>(&(*answer)->message) : nullptr;
    if (claimed == nullptr || claimed->outcome != daemon::ClaimOutcome::granted) {
      state.SkipWithError("not granted");
      break;
    }
    (void)daemon::send_message(control.get(), kWorker.generation, message::ChannelDown{{kConnection}});
  }
  state.SetItemsProcessed(state.iterations());
  control.reset();
}
BENCHMARK(claim_round_trip)->UseRealTime();

}  // namespace
}  // namespace smbdirect::tests::bench
