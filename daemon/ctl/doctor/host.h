// SPDX-License-Identifier: MIT
// All that the doctor looks at of a machine, so that tests can prepare ailments in memory. RealHost is the
// machine itself. Only looks: nothing is changed, and each call ends within a bounded time. smbdirectctl
// only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <sys/types.h>
#include <vector>

#include "daemon/config/pool_config.h"
#include "daemon/os/run_program.h"
#include "daemon/upstream/policy_routing.h"
#include "shm/base/result.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon::doctor {

class Host {
 public:
  enum class FileKind : uint8_t { file, program, directory, other };
  struct Address {
    shm::Host host{};
    std::string interface;
  };

  virtual ~Host() = default;

  [[nodiscard]] virtual bool is_root() = 0;
  [[nodiscard]] virtual bool has_user(const std::string& name) = 0;
  [[nodiscard]] virtual bool has_group(const std::string& name) = 0;
  [[nodiscard]] virtual shm::Result<std::string> read(const std::string& path) = 0;
  /// The names in a directory, sorted; none where it cannot be read.
  [[nodiscard]] virtual std::vector<std::string> list(const std::string& directory) = 0;
  /// Where a symbolic link leads; empty where there is none.
  [[nodiscard]] virtual std::string link(const std::string& path) = 0;
  [[nodiscard]] virtual std::optional<FileKind> kind(const std::string& path) = 0;
  /// May any user read and write it?
  [[nodiscard]] virtual bool is_open_to_all(const std::string& path) = 0;
  /// An error that says who else can put files into an existing directory (own_directory.h).
  [[nodiscard]] virtual shm::Result<> is_ours_alone(const std::string& directory) = 0;
  /// The process that has locked the whole file; 0: nobody.
  [[nodiscard]] virtual shm::Result<pid_t> lock_holder(const std::string& path) = 0;

  [[nodiscard]] virtual std::vector<Address> addresses() = 0;
  [[nodiscard]] virtual shm::Result<ProgramOutput> run(const std::string& program,
                                                       const std::vector<std::string>& arguments) = 0;
  /// The daemon's answer to "status".
  [[nodiscard]] virtual shm::Result<std::string> ask(const std::string& socket) = 0;
  /// Connects by TCP, sends the bytes, and returns one message of the answer, behind the four bytes of
  /// its type and length.
  [[nodiscard]] virtual shm::Result<std::vector<std::byte>> exchange(const sockaddr_storage& to,
                                                                     std::span<const std::byte> message) = 0;

  /// Of mode "transparent": the entries that there are.
  [[nodiscard]] virtual shm::Result<RoutingState> routing(int family, const PoolConfig& pool) = 0;
  /// Of mode "transparent": a connection over loopback from another host's address.
  [[nodiscard]] virtual shm::Result<> try_transparent(int family, const PoolConfig& pool) = 0;

 protected:
  Host() = default;
  Host(const Host&) = default;
  Host& operator=(const Host&) = default;
};

}  // namespace smbdirect::daemon::doctor
