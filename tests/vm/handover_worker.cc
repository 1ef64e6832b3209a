// SPDX-License-Identifier: MIT
// The worker of the test program handover: unprivileged, with the fabric object that the real one has, and an
// SMB Direct endpoint behind each request it accepts, so that smbdirect-connect --probe can be the client.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <grp.h>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <rdma/rdma_user_cm.h>
#include <uv.h>

#include "handover.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/fabric/verbs/verbs.h"
#include "workers/memory/arena.h"
#include "workers/memory/slab.h"
#include "workers/transport/transport.h"

namespace handover {

namespace {

namespace daemon = smbdirect::daemon;
namespace smb_direct = smbdirect::protocol::smb_direct;
namespace workers = smbdirect::workers;
namespace verbs = smbdirect::workers::fabric::verbs;

constexpr uid_t kNobody = 65534;
constexpr uint64_t kLingerMs = 5000;  // after the listener's end, so that tests see who holds what

void tell(const std::string& text) {
  (void)::send(kControlFd, text.data(), std::min(text.size(), kMostText), MSG_NOSIGNAL);
}

std::string outcome(const smbdirect::shm::Result<>& result) {
  return result ? "done" : strerrorname_np(result.error().system_errno);
}

/// One command on the inherited file itself.
template <class Body>
std::string written(uint32_t number, const Body& body, size_t response) {
  struct {
    rdma_ucm_cmd_hdr header;
    Body body;
  } frame{{number, sizeof(Body), static_cast<uint16_t>(response)}, body};
  const ssize_t n = ::write(kHandoverFd, &frame, sizeof frame.header + sizeof body);
  return n > 0 ? "done" : strerrorname_np(errno);
}

class Connection final : private workers::Transport::Owner {
 public:
  Connection(uv_loop_t& loop, workers::SlabPool& receives, workers::SlabPool& headers)
      : budget_(UINT64_MAX),
        transport_(
            std::make_unique<workers::Transport>(loop,
                                                 workers::Transport::Config{.role = smb_direct::Role::passive,
                                                                            .limits = {},
                                                                            .receive_pool = receives,
                                                                            .header_pool = headers,
                                                                            .budget = budget_},
                                                 static_cast<workers::Transport::Owner&>(*this))) {}
  bool start(verbs::Fabric& fabric, const verbs::Request& request) {
    return transport_->start([&](workers::fabric::Handler& handler) {
      return fabric.accept(request, verbs::Options{.max_receive_work = 256}, handler);
    });
  }
  [[nodiscard]] bool closed() const { return closed_; }

 private:
  void on_negotiated() override { tell("negotiated " + std::string(transport_->endpoint()->description())); }
  void on_fragment(workers::Fragment) override {}
  void on_read_done(uint64_t) override {}
  void on_invalidated(uint32_t) override {}
  void on_progress() override {}
  void on_closed(const std::string& why, bool clean) override {
    closed_ = true;
    tell(std::string("closed ") + (clean ? "cleanly: " : "badly: ") + why);
  }

  workers::Budget budget_;
  bool closed_ = false;
  std::unique_ptr<workers::Transport> transport_;
};

class Worker {
 public:
  Worker(uv_loop_t& loop, std::unique_ptr<verbs::Fabric> fabric, workers::Arena& arena)
      : loop_(loop),
        control_(loop, smbdirect::shm::UniqueFd(kControlFd), [this](int, int) { read_order(); }),
        receives_(arena, 8192),
        headers_(arena, 4096),
        fabric_(std::move(fabric)),
        linger_(loop, [this] { over_ = true; }) {
    control_.want(UV_READABLE);
  }
  [[nodiscard]] bool over() const { return over_; }

 private:
  void read_order() {
    Order order;
    const ssize_t n = ::recv(kControlFd, &order, sizeof order, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n != static_cast<ssize_t>(sizeof order)) {
      control_.want(0);
      linger_.start(kLingerMs);
      return;
    }
    std::erase_if(connections_, [](const auto& connection) { return connection->closed(); });
    const verbs::Request request{.id = order.id, .handover_fd = kHandoverFd, .parameters = order.parameters};
    if (order.what == Order::What::write_on) {
      rdma_ucm_destroy_id destroy{};
      destroy.response = reinterpret_cast<uint64_t>(&scratch_);
      destroy.id = order.id;
      rdma_ucm_reject reject{};
      reject.id = order.id;
      tell("destroy=" + written(RDMA_USER_CM_CMD_DESTROY_ID, destroy, sizeof(rdma_ucm_destroy_id_resp)) +
           " reject=" + written(RDMA_USER_CM_CMD_REJECT, reject, 0));
      return;
    }
    const auto taken = fabric_->take(request);
    if (order.what == Order::What::take || !taken) {
      tell("take=" + outcome(taken));
      return;
    }
    connections_.push_back(std::make_unique<Connection>(loop_, receives_, headers_));
    if (!connections_.back()->start(*fabric_, request)) tell("closed badly: not started");
  }

  uv_loop_t& loop_;
  smbdirect::shm::Watched<smbdirect::shm::UniqueFd>
      control_;  // outlives the connections, which tell of their ends
  workers::SlabPool receives_;
  workers::SlabPool headers_;
  std::unique_ptr<verbs::Fabric> fabric_;
  std::vector<std::unique_ptr<Connection>> connections_;
  smbdirect::shm::Timer linger_;
  std::array<std::byte, 64> scratch_{};
  bool over_ = false;
};

}  // namespace

int run_worker() {
  // Before the last change of credentials, as every change of a worker.
  const rlimit unlimited{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  (void)::setrlimit(RLIMIT_MEMLOCK, &unlimited);
  if (::setgroups(0, nullptr) != 0 || ::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) {
    std::perror("drop privileges");
    return 1;
  }
  uv_loop_t loop;
  uv_loop_init(&loop);
  {
    workers::Arena arena;
    auto fabric = verbs::Fabric::open(loop, arena);
    if (!fabric) {
      tell("cannot: " + fabric.error().text());
      return 1;
    }
    Worker worker(loop, std::move(*fabric), arena);
    tell("ready");
    while (!worker.over()) uv_run(&loop, UV_RUN_ONCE);
  }
  while (uv_run(&loop, UV_RUN_DEFAULT) != 0) {
  }
  return uv_loop_close(&loop) == 0 ? 0 : 1;
}

}  // namespace handover
