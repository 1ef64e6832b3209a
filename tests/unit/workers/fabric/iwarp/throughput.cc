// SPDX-License-Identifier: MIT
// How fast the fabric moves bytes over loopback, next to plain TCP doing the same: prints, asserts nothing.
// The receiving side is a process of its own, as it is in use.
//   TOTAL_MIB=2048 OPERATION_BYTES=1048576 iwarp_throughput
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <doctest/doctest.h>

#include "support.h"

namespace smbdirect::test {
namespace {

constexpr uint32_t kDepth = 8;

double seconds_of(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
}

double cpu_used(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

struct Measure {
  Measure()
      : begin(std::chrono::steady_clock::now()),
        own(cpu_used(RUSAGE_SELF)),
        child(cpu_used(RUSAGE_CHILDREN)) {}
  void print(const char* what, double bytes, pid_t peer) const {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    ::waitpid(peer, nullptr, 0);
    const double gb = bytes / 1e9;
    std::printf("%-28s %6.2f GB/s   CPU per GB: this side %.3f s, peer %.3f s\n", what, gb / took.count(),
                (cpu_used(RUSAGE_SELF) - own) / gb, (cpu_used(RUSAGE_CHILDREN) - child) / gb);
    std::fflush(stdout);
  }
  std::chrono::steady_clock::time_point begin;
  double own, child;
};

void plain_tcp(size_t total, size_t operation) {
  auto [near, far] = tcp_pair();
  // As many buffers as the fabric runs use, or the caches would favour one side.
  std::vector<std::byte> memory(operation * kDepth, std::byte{1});
  const pid_t peer = ::fork();
  if (peer == 0) {
    near.reset();
    size_t got = 0;
    while (got < total) {
      const size_t at = got % memory.size();
      const ssize_t n = ::read(far.get(), memory.data() + at, std::min(operation, memory.size() - at));
      if (n <= 0) std::_Exit(1);
      got += static_cast<size_t>(n);
    }
    (void)!::write(far.get(), "", 1);
    std::_Exit(0);
  }
  far.reset();
  const Measure measure;
  for (size_t done = 0; done < total; done += operation) {
    for (size_t at = 0; at < operation;) {
      iovec rest{memory.data() + done % memory.size() + at, operation - at};
      const ssize_t n = ::writev(near.get(), &rest, 1);
      if (n <= 0) return;
      at += static_cast<size_t>(n);
    }
  }
  char end = 0;
  (void)!::read(near.get(), &end, 1);
  measure.print("plain TCP writev/read", static_cast<double>(total), peer);
}

/// The connecting side: exposes memory, tells the other side where, and leaves when told to.
void peer_main(const sockaddr_storage& to, const iwarp::Options& options, size_t operation,
               fabric::Access access) {
  Loop loop;
  Recorder events;
  std::vector<std::byte> memory(operation * kDepth, std::byte{2}), message(64), advert(16);
  auto made = iwarp::connect(loop.get(), to, std::nullopt, options, events);
  if (!made) std::_Exit(1);
  auto& endpoint = **made;
  const auto exposed = endpoint.expose(memory, access);
  std::memcpy(advert.data(), &exposed->offset, 8);
  std::memcpy(advert.data() + 8, &exposed->token, 4);
  (void)endpoint.post_receive(0, sge(message));
  events.when_established = [&] {
    const fabric::Sge pieces[] = {sge(advert)};
    (void)endpoint.post_send(0, pieces);
    endpoint.ring();
  };
  endpoint.start();
  loop.until([&] { return events.count(fabric::Op::receive) > 0 || events.closed_calls > 0; }, 120000);
  if (std::getenv("SHOW_TRAFFIC") != nullptr) {
    const auto& t = endpoint.traffic();
    std::printf("  peer: %llu FPDUs in, %llu bytes written to us, %llu copied\n",
                static_cast<unsigned long long>(t.fpdus_received),
                static_cast<unsigned long long>(t.peer_write_bytes),
                static_cast<unsigned long long>(t.copied_bytes));
    std::fflush(stdout);
  }
  endpoint.abort();
  std::_Exit(0);
}

void fabric_run(const char* what, size_t total, size_t operation, bool crc, fabric::Op op) {
  const Listener listener;
  iwarp::Options options;
  options.want_crc = crc;
  const bool read = op == fabric::Op::rdma_read;
  const pid_t peer = ::fork();
  if (peer == 0) {
    peer_main(listener.address, options, operation,
              read ? fabric::Access::remote_read : fabric::Access::remote_write);
  }
  Loop loop;
  Recorder events;
  auto endpoint = iwarp::accept(loop.get(), listener.accept(), options, events);
  std::vector<std::byte> memory(operation * kDepth, std::byte{1}), advert(16);
  (void)endpoint->post_receive(0, sge(advert));
  endpoint->start();
  loop.until([&] { return events.count(fabric::Op::receive) > 0; });
  fabric::RemoteMemory remote;
  std::memcpy(&remote.offset, advert.data(), 8);
  std::memcpy(&remote.token, advert.data() + 8, 4);

  size_t posted = 0, done = 0;
  const auto post = [&] {
    const size_t slot = posted / operation % kDepth;
    const auto piece = sge(std::span(memory).subspan(slot * operation, operation));
    const fabric::RemoteMemory at{remote.offset + slot * operation, remote.token};
    if (read) {
      (void)endpoint->post_read(slot, piece, at);
    } else {
      (void)endpoint->post_write(slot, {&piece, 1}, at);
    }
    posted += operation;
  };
  events.when_done = [&](const fabric::Completion& completion) {
    if (completion.op != op) return;
    done += operation;
    if (posted < total) post();
    endpoint->ring();
  };
  const Measure measure;
  while (posted < total && posted < operation * kDepth) post();
  endpoint->ring();
  loop.until([&] { return done >= total; }, 120000);
  events.when_done = nullptr;
  const fabric::Sge bye[] = {sge(std::span(advert).first(1))};
  (void)endpoint->post_send(0, bye);
  endpoint->ring();
  loop.until([&] { return events.closed_calls > 0; });
  measure.print(what, static_cast<double>(total), peer);
}

size_t setting(const char* name, size_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoul(text, nullptr, 10);
}

TEST_CASE("throughput") {
  const size_t operation = setting("OPERATION_BYTES", 1U << 20);
  const size_t total = setting("TOTAL_MIB", 2048) * (1U << 20) / operation * operation;
  for (int round = 0; round < 2; ++round) {
    plain_tcp(total, operation);
    fabric_run("RDMA WRITE, CRC off", total, operation, false, fabric::Op::rdma_write);
    fabric_run("RDMA WRITE, CRC on", total, operation, true, fabric::Op::rdma_write);
    fabric_run("RDMA READ, CRC off", total, operation, false, fabric::Op::rdma_read);
    fabric_run("RDMA READ, CRC on", total, operation, true, fabric::Op::rdma_read);
  }
}

}  // namespace
}  // namespace smbdirect::test
