// SPDX-License-Identifier: MIT
// The machine that this process runs on. smbdirectctl only; every call ends within some seconds.
#pragma once

#include "daemon/ctl/doctor/host.h"

namespace smbdirect::daemon::doctor {

class RealHost final : public Host {
 public:
  [[nodiscard]] bool is_root() override;
  [[nodiscard]] bool has_user(const std::string& name) override;
  [[nodiscard]] bool has_group(const std::string& name) override;
  [[nodiscard]] shm::Result<std::string> read(const std::string& path) override;
  [[nodiscard]] std::vector<std::string> list(const std::string& directory) override;
  [[nodiscard]] std::string link(const std::string& path) override;
  [[nodiscard]] std::optional<FileKind> kind(const std::string& path) override;
  [[nodiscard]] bool is_open_to_all(const std::string& path) override;
  [[nodiscard]] shm::Result<> is_ours_alone(const std::string& directory) override;
  [[nodiscard]] shm::Result<pid_t> lock_holder(const std::string& path) override;
  [[nodiscard]] std::vector<Address> addresses() override;
  [[nodiscard]] shm::Result<ProgramOutput> run(const std::string& program,
                                               const std::vector<std::string>& arguments) override;
  [[nodiscard]] shm::Result<std::string> ask(const std::string& socket) override;
  [[nodiscard]] shm::Result<std::vector<std::byte>> exchange(const sockaddr_storage& to,
                                                             std::span<const std::byte> message) override;
  [[nodiscard]] shm::Result<RoutingState> routing(int family, const PoolConfig& pool) override;
  [[nodiscard]] shm::Result<> try_transparent(int family, const PoolConfig& pool) override;
};

}  // namespace smbdirect::daemon::doctor
