// SPDX-License-Identifier: MIT
// The processes of reference-peer: what becomes of a start, of a daemon that goes away, of a channel that is
// passed on.
#include "program.h"

#include <csignal>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"

using namespace scripted;

namespace {

const Bytes kNegotiate = smb2_test::negotiate_request({0x0302});

struct Group {
  explicit Group(const std::vector<std::string>& more = {})
      : program([&] {
          std::vector<std::string> options{"--control", daemon.path(), "--smbd", smbd.address_text()};
          options.insert(options.end(), more.begin(), more.end());
          return options;
        }()) {
    daemon.accept();
    CHECK(program.line() == "ready");
  }
  /// The worker's client is served: its first message came to smbd.
  void check_served() {
    worker.accept(kNegotiate);
    smbd.accept();
    CHECK(smbd.receive() == kNegotiate);
  }

  Directory directory;
  Daemon daemon{directory.path};
  Smbd smbd;
  Worker worker{{}};
  Program program;
};

std::string ended(pid_t pid, const std::string& how) { return "ended " + std::to_string(pid) + " " + how; }

}  // namespace

TEST_CASE("a start makes a child, which serves until its channel has ended") {
  Group group;
  group.daemon.start(5, group.worker);
  const pid_t pid = group.program.child(5);
  group.check_served();
  group.worker.end();
  CHECK(group.program.line() == ended(pid, "exit 0"));
  // The main process goes on.
  Worker second({});
  group.daemon.start(6, second);
  const pid_t other = group.program.child(6);
  CHECK(other != pid);
  second.accept(kNegotiate);
  second.end();
  CHECK(group.program.line() == ended(other, "exit 0"));
}

TEST_CASE("a child that ends before it has opened its channel is reported") {
  Group group({"--stop-at", "started"});
  group.daemon.start(7, group.worker);
  const pid_t pid = group.program.child(7);
  REQUIRE(stopped(pid));
  REQUIRE(::kill(pid, SIGKILL) == 0);
  CHECK(group.daemon.failed() == 7);
  CHECK(group.program.line() == ended(pid, "signal 9"));
}

TEST_CASE("a child whose start leads nowhere is reported") {
  Group group;
  {
    const Worker gone({});
    group.daemon.start(8, gone);
    (void)group.program.child(8);
    // It may find the socket or not: nobody answers there.
  }
  CHECK(group.daemon.failed() == 8);
}

TEST_CASE("a daemon that comes back has its main process again; clients are served all the while") {
  Group group;
  group.daemon.start(1, group.worker);
  (void)group.program.child(1);
  group.check_served();
  group.daemon.restart();
  group.daemon.accept();
  CHECK(group.program.line() == "ready");
  group.smbd.send(smb2_test::negotiate_response(0x0302));
  CHECK(group.worker.reply().pdu == smb2_test::negotiate_response(0x0302));
}

TEST_CASE("SIGTERM ends the main process, and its children with it") {
  Group group({"--stop-at", "attached"});
  group.daemon.start(1, group.worker);
  const pid_t pid = group.program.child(1);
  group.worker.accept(kNegotiate);
  REQUIRE(stopped(pid));
  group.program.signal(SIGTERM);
  CHECK(group.program.wait() == 0);
  CHECK(group.worker.ended());
}

TEST_CASE("children do not outlive a main process that is killed") {
  Group group;
  group.daemon.start(1, group.worker);
  (void)group.program.child(1);
  group.check_served();
  group.program.signal(SIGKILL);
  CHECK(group.program.wait() == 128 + SIGKILL);
  CHECK(group.worker.ended());
  CHECK(group.smbd.closed());
}

TEST_CASE("a child passes its channel on: another process serves it, and the child has done its part") {
  Directory meeting;
  Group group({"--pass-to", meeting.path});
  Program adopter({"--adopt", meeting.path, "--smbd", group.smbd.address_text()});
  CHECK(adopter.line() == "ready");
  group.daemon.start(1, group.worker);
  const pid_t pid = group.program.child(1);
  group.check_served();
  CHECK(group.program.line() == ended(pid, "exit 0"));
  group.program.signal(SIGTERM);
  CHECK(group.program.wait() == 0);
  group.smbd.send(smb2_test::negotiate_response(0x0302));
  CHECK(group.worker.reply().pdu == smb2_test::negotiate_response(0x0302));
  adopter.signal(SIGTERM);
  CHECK(adopter.wait() == 0);
  CHECK(group.worker.ended());
}

TEST_CASE("without smbd the client is told at once, and the child ends") {
  Directory directory;
  Daemon daemon(directory.path);
  Worker worker({});
  Program program({"--control", daemon.path(), "--smbd", "127.0.0.1:1"});
  daemon.accept();
  CHECK(program.line() == "ready");
  daemon.start(1, worker);
  const pid_t pid = program.child(1);
  worker.accept_unattached(kNegotiate);
  CHECK(worker.ended());
  CHECK(program.line() == ended(pid, "exit 0"));
}

TEST_CASE("a command line that makes no sense") {
  for (const auto& options : std::initializer_list<std::vector<std::string>>{
           {},
           {"--control", "x"},
           {"--smbd", "127.0.0.1:445"},
           {"--control", "x", "--adopt", "y", "--smbd", "127.0.0.1:445"},
           {"--control", "x", "--smbd", "localhost:445"},
           {"--control", "x", "--smbd", "127.0.0.1"},
           {"--control", "x", "--smbd", "127.0.0.1:445", "--stop-at", "nowhere"},
           {"--control", "x", "--smbd", "127.0.0.1:445", "--more"}}) {
    CHECK(Program(options).wait() == 2);
  }
}
