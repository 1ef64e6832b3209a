// SPDX-License-Identifier: MIT
#include "rig.h"

#include <atomic>
#include <cerrno>
#include <random>
#include <sys/socket.h>
#include <sys/time.h>
#include <thread>

#include <doctest/doctest.h>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"
#include "shm/base/socket_address.h"
#include "workers/connect/address.h"

namespace smbdirect::workers::connect::test {

namespace {

namespace smb2 = protocol::smb2;
namespace wire = protocol::smb2::wire;

constexpr time_t kReceiveSeconds = 30;
constexpr uint64_t kLoopMs = 60'000;  // a test that takes longer hangs

Bytes request(uint16_t command, uint64_t message_id, size_t size, bool is_signed) {
  Bytes out(size);
  wire::store(out, 0, uint32_t{0x424d53fe});
  wire::store(out, smb2::header_at::kStructureSize, uint16_t{64});
  wire::store(out, smb2::header_at::kCommand, command);
  wire::store(out, smb2::header_at::kCredits, uint16_t{64});
  wire::store(out, smb2::header_at::kFlags, uint32_t{is_signed ? 8u : 0u});
  wire::store(out, smb2::header_at::kMessageId, message_id);
  return out;
}

}  // namespace

Bytes pattern(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes out(size);
  for (size_t at = 0; at < size; at += 8) {
    const uint64_t word = random();
    for (size_t i = at; i < std::min(size, at + 8); ++i) out[i] = std::byte(word >> (8 * (i - at)) & 0xff);
  }
  return out;
}

uint32_t status_of(const Bytes& pdu) { return wire::load32(pdu, smb2::header_at::kStatus); }

Bytes read_data(const Bytes& pdu) {
  const size_t at = wire::load8(pdu, smb2::read_response_at::kDataOffset);
  const size_t length = wire::load32(pdu, smb2::read_response_at::kDataLength);
  if (pdu.size() < at + length) return {};
  return {pdu.begin() + static_cast<std::ptrdiff_t>(at),
          pdu.begin() + static_cast<std::ptrdiff_t>(at + length)};
}

// --- the client ---

Client::Client(const sockaddr_storage& to) : fd_(::socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval deadline{.tv_sec = kReceiveSeconds, .tv_usec = 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), shm::length_of(to)) != 0) fd_.reset();
}

void Client::send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the receiving side tells
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void Client::send_pdu(const Bytes& pdu) {
  Bytes framed(4 + pdu.size());
  std::ranges::copy(smb2::encode_nbt(static_cast<uint32_t>(pdu.size())), framed.begin());
  std::ranges::copy(pdu, framed.begin() + 4);
  send(framed);
}

bool Client::receive(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    if (n < 0) reset_seen_ = errno == ECONNRESET;
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

std::optional<Bytes> Client::receive_pdu() {
  std::array<std::byte, 4> word{};
  if (!receive(word)) return std::nullopt;
  const auto length = smb2::parse_nbt(word);
  if (!length) return std::nullopt;
  Bytes pdu(*length);
  if (!receive(pdu)) return std::nullopt;
  return pdu;
}

bool Client::ended_by_reset() {
  std::array<std::byte, 4096> scratch{};
  while (!reset_seen_) {
    const ssize_t n = ::recv(fd_.get(), scratch.data(), scratch.size(), 0);
    if (n == 0) return false;
    if (n < 0) return errno == ECONNRESET;
  }
  return true;
}

void Client::half_close() { ::shutdown(fd_.get(), SHUT_WR); }

void Client::reset() {
  const linger hard{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  fd_.reset();
}

Bytes Client::negotiate() {
  Bytes out = request(0, next_message_id_++, 104, false);
  wire::store(out, 64, smb2::negotiate_at::kRequestStructureSize);
  wire::store(out, smb2::negotiate_at::kDialectCount, uint16_t{2});
  wire::store(out, smb2::negotiate_at::kDialects, uint16_t{0x0300});
  wire::store(out, smb2::negotiate_at::kDialects + 2, uint16_t{0x0302});
  return out;
}

Bytes Client::read(uint64_t offset, uint32_t length, bool is_signed) {
  Bytes out = request(8, next_message_id_++, 113, is_signed);
  wire::store(out, 64, smb2::read_at::kStructureSize);
  wire::store(out, smb2::read_at::kLength, length);
  wire::store(out, 72, offset);
  return out;
}

Bytes Client::write(uint64_t offset, std::span<const std::byte> data, bool is_signed) {
  Bytes out = request(9, next_message_id_++, 112 + data.size(), is_signed);
  wire::store(out, 64, smb2::write_at::kStructureSize);
  wire::store(out, smb2::write_at::kDataOffset, uint16_t{112});
  wire::store(out, smb2::write_at::kLength, static_cast<uint32_t>(data.size()));
  wire::store(out, 72, offset);
  std::ranges::copy(data, out.begin() + 112);
  return out;
}

Bytes Client::echo() {
  Bytes out = request(13, next_message_id_++, 68, false);
  wire::store(out, 64, uint16_t{4});
  return out;
}

Bytes Client::session_setup() {
  Bytes out = request(1, next_message_id_++, 88, false);
  wire::store(out, 64, uint16_t{25});
  return out;
}

void Client::log_in() {
  greet();
  send_pdu(session_setup());
  (void)receive_pdu();
}

void Client::greet() {
  send_pdu(negotiate());
  (void)receive_pdu();
}

// --- the rig ---

Rig::Rig(const RigSettings& settings) {
  REQUIRE(uv_loop_init(&loop_) == 0);
  server_ = std::make_unique<ScriptedServer>(loop_, settings.server, settings.file_size);
  Options options = settings.options;
  options.listen = *parse_address("127.0.0.1:0", {});
  if (options.to.empty()) options.to = {server_->address()};
  program_ = std::make_unique<Program>(loop_, options, [this] { stopped_ = true; });
  REQUIRE(program_->start());
}

Rig::~Rig() {
  stop();
  program_.reset();
  server_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop_) == 0);
}

sockaddr_storage Rig::client_address() const { return *parse_address(program_->address(), {}); }

void Rig::until(const std::function<bool()>& condition) {
  bool late = false;
  shm::Timer deadline(loop_, [&] { late = true; });
  deadline.start(kLoopMs);
  while (!condition() && !late) uv_run(&loop_, UV_RUN_ONCE);
  REQUIRE_FALSE(late);
}

void Rig::run(const std::vector<std::function<void(Client&)>>& scripts, const std::function<void()>& turn) {
  std::atomic<size_t> left = scripts.size();
  using Box = shm::UvBox<uv_async_t>;
  const shm::UvOwner<Box> wake(new Box);
  uv_async_init(&loop_, &wake->handle, [](uv_async_t*) {});
  const sockaddr_storage address = client_address();
  std::vector<std::thread> threads;
  for (const auto& script : scripts) {
    threads.emplace_back([&, script] {
      {
        Client client(address);
        script(client);
      }
      --left;
      uv_async_send(&wake->handle);
    });
  }
  bool late = false;
  shm::Timer deadline(loop_, [&] { late = true; });
  deadline.start(kLoopMs);
  while (left > 0 && !late) {
    uv_run(&loop_, UV_RUN_ONCE);
    if (turn) turn();
  }
  if (late) program_->stop();
  while (left > 0) uv_run(&loop_, UV_RUN_ONCE);  // receives have deadlines of their own
  for (std::thread& thread : threads) thread.join();
  REQUIRE_FALSE(late);
}

void Rig::stop() {
  if (over_) return;
  over_ = true;
  program_->stop();
  until([this] { return stopped_; });
  counters_ = program_->counters();
  server_->close_listener();
  until([this] { return server_->open() == 0; });
}

Counters Rig::counters() const { return over_ ? counters_ : program_->counters(); }

}  // namespace smbdirect::workers::connect::test
