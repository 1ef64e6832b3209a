// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/iwarp.h"

#include <utility>

#include "workers/fabric/iwarp/connection.h"

namespace smbdirect::workers::fabric::iwarp {
namespace {

/// The caller's handle on a connection.
class IwarpEndpoint final : public Endpoint {
 public:
  explicit IwarpEndpoint(Connection::Owner connection) : connection_(std::move(connection)) {}

  void start() override { connection_->start(); }

  std::expected<void, PostError> post_receive(uint64_t id, Sge into) override {
    if (!connection_->open()) return std::unexpected(PostError::closed);
    return stream().post_receive(id, into);
  }
  std::expected<void, PostError> post_send(uint64_t id, std::span<const Sge> pieces,
                                           const uint32_t* invalidate) override {
    if (!connection_->open()) return std::unexpected(PostError::closed);
    return stream().post_send(id, pieces, invalidate);
  }
  std::expected<void, PostError> post_write(uint64_t id, std::span<const Sge> pieces,
                                            RemoteMemory to) override {
    if (!connection_->open()) return std::unexpected(PostError::closed);
    return stream().post_write(id, pieces, to);
  }
  std::expected<void, PostError> post_read(uint64_t id, Sge into, RemoteMemory from) override {
    if (!connection_->open()) return std::unexpected(PostError::closed);
    return stream().post_read(id, into, from);
  }
  void ring() override { connection_->ring(); }
  void ring_now() override { connection_->ring_now(); }
  [[nodiscard]] uint32_t send_room() const override {
    return connection_->open() ? connection_->stream().send_room() : 0;
  }

  std::expected<RemoteMemory, PostError> expose(std::span<std::byte> memory, Access access) override {
    if (!connection_->open()) return std::unexpected(PostError::closed);
    return stream().expose(memory, access);
  }
  void unexpose(uint32_t token) override { connection_->unexpose(token); }

  void disconnect() override { connection_->disconnect(); }
  void abort() override { connection_->abort(); }
  void trim() override { connection_->trim(); }

  [[nodiscard]] const Attributes& attributes() const override { return connection_->attributes(); }
  [[nodiscard]] const Traffic& traffic() const override {
    return std::as_const(*connection_).stream().traffic();
  }
  [[nodiscard]] Progress progress() const override { return connection_->progress(); }
  [[nodiscard]] std::string_view description() const override { return connection_->description(); }

 private:
  [[nodiscard]] Stream& stream() { return connection_->stream(); }

  Connection::Owner connection_;
};

}  // namespace

std::unique_ptr<Endpoint> accept(uv_loop_t& loop, shm::UniqueFd fd, const Options& options,
                                 Handler& handler) {
  return std::make_unique<IwarpEndpoint>(
      Connection::create(loop, std::move(fd), std::nullopt, options, handler));
}

shm::Result<std::unique_ptr<Endpoint>> connect(uv_loop_t& loop, const sockaddr_storage& to,
                                               const std::optional<sockaddr_storage>& from,
                                               const Options& options, Handler& handler) {
  auto fd = open_socket(to, from);
  if (!fd) return std::unexpected(fd.error());
  return std::make_unique<IwarpEndpoint>(Connection::create(loop, std::move(*fd), to, options, handler));
}

}  // namespace smbdirect::workers::fabric::iwarp
