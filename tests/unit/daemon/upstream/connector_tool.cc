// SPDX-License-Identifier: MIT
// Runs the supervisor's ways to smbd without a supervisor, for tests that need a network namespace:
//     connector_tool transparent FD [mark=N] [table=N] [priority=N] [source=ADDRESS] [lock=DIRECTORY]
//     [ports=FIRST-LAST] [deadline=MS] [tries=N]
//     connector_tool handoff FD run=DIRECTORY [conf=SMB.CONF] [smbd=PROGRAM] [testparm=PROGRAM] [most=N]
// FD is a SOCK_SEQPACKET socket of the test. The tool says "ready ..." or "error ..." on it, and
// then obeys:
//     open NUMBER CLIENT PORT SERVER PORT   -> "stream NUMBER" with the descriptor, or "failed NUMBER why"
//     cancel NUMBER                         -> "cancelled NUMBER"
// EOF ends it in order, with everything taken back.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <sys/socket.h>

#include "daemon/process_setup.h"
#include "daemon/upstream/handoff/handoff_connector.h"
#include "daemon/upstream/smbd_connector.h"
#include "daemon/upstream/transparent/transparent_connector.h"
#include "daemon/upstream/transparent/transparent_routes.h"
#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"
#include "tests/unit/unix_sockets.h"

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

void say(int to, const std::string& text, int descriptor = -1) {
  const auto bytes = std::as_bytes(std::span(text));
  const ssize_t sent = descriptor >= 0 ? smbdirect::test::send_with(to, bytes, descriptor)
                                       : smbdirect::test::send_with(to, bytes);
  if (sent < 0) std::perror("sendmsg");
}

class Commands {
 public:
  Commands(int fd, SmbdConnector& listener) : fd_(fd), door_(listener) {}

  /// False: the test is done.
  bool obey() {
    std::array<char, 512> buffer{};
    const ssize_t got = recv(fd_, buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    std::istringstream words(std::string(buffer.data(), size_t(got)));
    std::string verb, number, client, server;
    uint16_t client_port = 0, server_port = 0;
    words >> verb >> number;
    if (verb == "open" && words >> client >> client_port >> server >> server_port) {
      numbers_[number] = door_.open(*shm::address_from_text(client, client_port),
                                    *shm::address_from_text(server, server_port),
                                    [fd = fd_, number](shm::Result<shm::UniqueFd> stream) {
                                      if (stream) {
                                        say(fd, "stream " + number, stream->get());
                                      } else {
                                        say(fd, "failed " + number + " " + stream.error().text());
                                      }
                                    });
    } else if (verb == "cancel") {
      door_.cancel(numbers_[number]);
      say(fd_, "cancelled " + number);
    } else {
      say(fd_, "what?");
    }
    return true;
  }

 private:
  int fd_;
  SmbdConnector& door_;
  std::map<std::string, uint64_t> numbers_;
};

int serve(int fd, shm::Loop& loop, SmbdConnector& listener, const std::string& greeting) {
  Commands commands(fd, listener);
  auto watch = shm::ReadWatch::make(loop, fd, [&] {
    if (!commands.obey()) loop.stop();
  });
  if (!watch) return 1;
  watch->start();
  say(fd, greeting);
  loop.run();
  return 0;
}

int run_transparent(int fd, std::map<std::string, std::string>& options) {
  TransparentRoutes::Options routes{.routing = {}, .lock_directory = PoolConfig{}.run_directory};
  TransparentConnector::Options connector;
  if (options.contains("mark")) routes.routing.mark = uint32_t(std::stoul(options["mark"], nullptr, 0));
  if (options.contains("table")) routes.routing.table = uint32_t(std::stoul(options["table"]));
  if (options.contains("priority")) routes.routing.priority = uint32_t(std::stoul(options["priority"]));
  if (options.contains("source"))
    routes.sources = {shm::host_of(*shm::address_from_text(options["source"], 0))};
  if (options.contains("lock")) routes.lock_directory = options["lock"];
  if (options.contains("deadline")) connector.deadline_ms = uint32_t(std::stoul(options["deadline"]));
  if (options.contains("tries")) connector.port_tries = uint32_t(std::stoul(options["tries"]));
  if (options.contains("ports")) {
    std::istringstream range(options["ports"]);
    char dash = 0;
    range >> connector.ports.first >> dash >> connector.ports.last;
  }
  const auto set_up = TransparentRoutes::set_up(routes);
  if (!set_up) {
    say(fd, "error " + set_up.error().text());
    return 1;
  }
  connector.mark = routes.routing.mark;
  connector.no_ipv6 = (*set_up)->no_ipv6();
  shm::Loop loop;
  TransparentConnector listener(loop, connector);
  return serve(fd, loop, listener, "ready " + connector.no_ipv6);
}

int run_handoff(int fd, std::map<std::string, std::string>& options) {
  HandoffConnector::Options handoff;
  handoff.run_directory = options["run"];
  handoff.samba.smb_conf = options["conf"];
  if (options.contains("smbd")) handoff.smbd = options["smbd"];
  if (options.contains("testparm")) handoff.samba.testparm = options["testparm"];
  if (options.contains("most")) handoff.max_spawned = std::stoul(options["most"]);
  shm::Loop loop;
  const auto listener = HandoffConnector::set_up(loop, handoff);
  if (!listener) {
    say(fd, "error " + listener.error().text());
    return 1;
  }
  return serve(fd, loop, **listener, "ready");
}

}  // namespace

int main(int argc, char** argv) {
  shm::log::configure(shm::log::Level::debug, "connector_tool");
  prepare_process(64);
  std::map<std::string, std::string> options;
  for (int i = 3; i < argc; ++i) {
    const std::string word(argv[i]);
    const size_t equals = word.find('=');
    options[word.substr(0, equals)] = equals == std::string::npos ? "" : word.substr(equals + 1);
  }
  const std::string mode = argc > 2 ? argv[1] : "";
  const int fd = argc > 2 ? std::atoi(argv[2]) : -1;
  if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (mode == "transparent") return run_transparent(fd, options);
  if (mode == "handoff") return run_handoff(fd, options);
  std::fprintf(stderr, "see the head of connector_tool.cc\n");
  return 2;
}
