// SPDX-License-Identifier: MIT
// How connection requests change process, on a real kernel: run by handover.py in the guest.
//
//     handover SCENARIO ADDRESS PORT
//
// listens there and says "listening"; then, for each connection request, plays the scenario and says what
// came of it, one "who what" a line on standard output. It ends after the scenario's last request.
#include "handover.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <functional>
#include <map>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <type_traits>
#include <unistd.h>

#include "shm/base/socket_address.h"
#include "shm/base/unique_fd.h"

namespace handover {

namespace {

namespace daemon = smbdirect::daemon;
namespace shm = smbdirect::shm;
using daemon::CmEvent;
using daemon::CmEventType;
using daemon::RdmaCm;
using What = Order::What;

constexpr int kWaitMs = 30'000;
constexpr uint64_t kListenerCookie = 0x115;

/// Of the clock that the log's lines have.
double seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<double>(now.tv_sec % 60) + static_cast<double>(now.tv_nsec) / 1e9;
}

[[noreturn]] void give_up(const std::string& why) {
  std::printf("failed %s\n", why.c_str());
  std::exit(1);
}

template <class T>
T need(shm::Result<T> result) {
  if (!result) give_up(result.error().text());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

void wait_for(int fd, const char* what) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  if (::poll(&entry, 1, kWaitMs) != 1) give_up(std::string("no ") + what + " within 30 s");
}

/// A worker as its listener has it.
class Worker {
 public:
  explicit Worker(const char* name) : name_(name), handover_(need(RdmaCm::open())) {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) give_up("socketpair");
    control_ = shm::UniqueFd(pair[0]);
    const shm::UniqueFd theirs(pair[1]);
    pid_ = ::fork();
    if (pid_ == 0) {
      // Out of the way of the numbers that dup2 is about to use.
      const int handover = ::fcntl(handover_.fd(), F_DUPFD_CLOEXEC, 10);
      const int control = ::fcntl(theirs.get(), F_DUPFD_CLOEXEC, 10);
      ::dup2(handover, kHandoverFd);
      ::dup2(control, kControlFd);
      ::execl("/proc/self/exe", "handover", "worker", nullptr);
      ::_exit(127);
    }
    if (heard() != "ready") give_up("the worker does not come up");
  }
  ~Worker() {
    control_.reset();
    ::waitpid(pid_, nullptr, 0);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] RdmaCm& handover() { return handover_; }
  void order(What what, uint32_t id, const daemon::CmParameters& parameters = {}) {
    const Order order{.what = what, .id = id, .parameters = parameters};
    if (::send(control_.get(), &order, sizeof order, MSG_NOSIGNAL) < 0) give_up("the worker is gone");
  }
  /// Its next line, repeated on standard output.
  std::string heard() {
    wait_for(control_.get(), "word from a worker");
    std::array<char, kMostText> text{};
    const ssize_t n = ::recv(control_.get(), text.data(), text.size(), 0);
    if (n <= 0) give_up("the worker has ended");
    const std::string line(text.data(), static_cast<size_t>(n));
    std::printf("%s %s\n", name_, line.c_str());
    std::fprintf(stderr, "  (%s at %.3f s)\n", name_, seconds());
    return line;
  }
  void kill() { ::kill(pid_, SIGKILL); }

 private:
  const char* name_;
  RdmaCm handover_;
  shm::UniqueFd control_;
  pid_t pid_ = -1;
};

class Listener {
 public:
  explicit Listener(const sockaddr_storage& address) : cm_(need(RdmaCm::open())) {
    id_ = need(cm_.create(kListenerCookie));
    need(cm_.bind(id_, address));
    need(cm_.listen(id_, 16));
    std::printf("listening\n");
  }
  CmEvent request() {
    for (;;) {
      wait_for(cm_.fd(), "connection request");
      const auto event = need(cm_.next_event());
      if (!event) continue;
      if (event->type != CmEventType::connect_request || event->cookie != kListenerCookie) {
        give_up("an event that is no request: " + std::string(daemon::cm_event_name(event->type)));
      }
      const daemon::CmParameters& asked = event->parameters;
      std::fprintf(stderr, "  (request at %.3f s)\n", seconds());
      std::printf("request %u bytes of private data, depths %u/%u\n", asked.private_data_length,
                  asked.initiator_depth, asked.responder_resources);
      return *event;
    }
  }
  void offer(const CmEvent& request, Worker& worker) {
    need(worker.handover().migrate(request.id, cm_.fd()));
  }
  void take_back(const CmEvent& request, Worker& worker) {
    need(cm_.migrate(request.id, worker.handover().fd()));
  }
  [[nodiscard]] RdmaCm& cm() { return cm_; }
  [[nodiscard]] uint32_t id() const { return id_; }

 private:
  RdmaCm cm_;
  uint32_t id_ = 0;
};

void accept_by(Listener& listener, const CmEvent& request, Worker& worker) {
  listener.offer(request, worker);
  worker.order(What::accept, request.id, request.parameters);
  if (!worker.heard().starts_with("negotiated")) give_up("not accepted");
  if (!worker.heard().starts_with("closed")) give_up("not closed");
}

/// (i) listener -> hand-over -> worker, twice.
void accept(Listener& listener) {
  Worker a("A");
  std::printf("serving\n");
  for (int i = 0; i < 2; ++i) accept_by(listener, listener.request(), a);
}

/// (ii) what a worker with a dup of its hand-over file can do to what is not its own.
void steal(Listener& listener) {
  Worker a("A");
  Worker b("B");
  std::printf("serving\n");
  const CmEvent request = listener.request();
  const auto attempts = [&](const char* what, uint32_t id) {
    std::printf("try %s\n", what);
    a.order(What::take, id);
    (void)a.heard();
    a.order(What::write_on, id);
    (void)a.heard();
  };
  attempts("the listening id", listener.id());
  attempts("a request still with the listener", request.id);
  listener.offer(request, b);
  attempts("a request offered to B", request.id);
  // Of its own it can take, but not be told what to do on the file it inherited.
  b.order(What::write_on, request.id);
  (void)b.heard();
  b.order(What::accept, request.id, request.parameters);
  (void)b.heard();
  (void)b.heard();
}

/// (iii) an offer that nobody takes goes back, and the client hears no.
void take_back(Listener& listener) {
  Worker a("A");
  std::printf("serving\n");
  const CmEvent request = listener.request();
  listener.offer(request, a);
  listener.take_back(request, a);
  a.order(What::take, request.id);  // too late
  (void)a.heard();
  need(listener.cm().reject(request.id));
  need(listener.cm().destroy(request.id));
  a.order(What::take, request.id);
  (void)a.heard();
  std::printf("rejected\n");
  const CmEvent second = listener.request();
  listener.offer(second, a);
  listener.take_back(second, a);
  need(listener.cm().destroy(second.id));  // without a word
  std::printf("destroyed\n");
  accept_by(listener, listener.request(), a);
}

/// A worker that dies with an offer: another one gets it.
void worker_dies(Listener& listener) {
  Worker b("B");
  Worker a("A");
  std::printf("serving\n");
  const CmEvent request = listener.request();
  listener.offer(request, a);
  a.kill();
  listener.take_back(request, a);
  accept_by(listener, request, b);
}

/// The listener's death while a worker lives and holds its dup: handover.py kills us here.
void listener_dies(Listener& listener) {
  Worker a("A");
  std::printf("serving\n");
  accept_by(listener, listener.request(), a);
  (void)listener.request();
}

}  // namespace

int run(const std::string& scenario, const sockaddr_storage& address) {
  const std::map<std::string, std::function<void(Listener&)>> scenarios = {{"accept", accept},
                                                                           {"steal", steal},
                                                                           {"take-back", take_back},
                                                                           {"worker-dies", worker_dies},
                                                                           {"listener-dies", listener_dies}};
  const auto found = scenarios.find(scenario);
  if (found == scenarios.end()) return 2;
  Listener listener(address);
  found->second(listener);
  std::printf("over\n");
  return 0;
}

}  // namespace handover

int main(int argc, char** argv) {
  (void)std::setvbuf(stdout, nullptr, _IOLBF, 0);
  if (argc == 2 && std::strcmp(argv[1], "worker") == 0) return handover::run_worker();
  if (argc != 4) return 2;
  const auto address =
      smbdirect::shm::address_from_text(argv[2], static_cast<uint16_t>(std::strtoul(argv[3], nullptr, 10)));
  return address ? handover::run(argv[1], *address) : 2;
}
