// SPDX-License-Identifier: MIT
// The other side of libsmbdirect-peer: a worker or a daemon that says what a test wants said. Owned by the
// test, in its process (or in a thread of it).
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <memory>
#include <poll.h>
#include <span>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "protocol/proxy/frames.h"
#include "protocol/proxy/smbdirect_peer.h"
#include "shm/base/unique_fd.h"
#include "tests/unit/unix_sockets.h"

namespace proxy_test {

namespace proxy = smbdirect::protocol::proxy;
using proxy::FrameType;
using proxy::Sender;
using smbdirect::shm::UniqueFd;
using Bytes = std::vector<std::byte>;

inline constexpr size_t kAreaBytes = 64 * 1024;
inline constexpr proxy::Cookie kCookie{std::byte{7}, std::byte{8}, std::byte{9}};

struct CloseChannel {
  void operator()(smbdirect_channel* channel) const { smbdirect_channel_close(channel); }
};
using Channel = std::unique_ptr<smbdirect_channel, CloseChannel>;
struct CloseMain {
  void operator()(smbdirect_main* main) const { smbdirect_main_close(main); }
};
using Main = std::unique_ptr<smbdirect_main, CloseMain>;

/// Bytes that say where they belong.
inline Bytes pattern(size_t size, unsigned seed) {
  Bytes bytes(size);
  uint32_t state = seed * 2654435761U + 1;
  for (std::byte& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

/// Not blocking, and closed on exec.
inline bool is_ours(int fd) {
  return (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

inline Bytes frame(FrameType type, const Bytes& body = {}, uint64_t id = 0, uint16_t count = 0) {
  const auto header =
      proxy::encode_header({.length = uint32_t(body.size()), .type = type, .count = count, .id = id});
  Bytes bytes(header.begin(), header.end());
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

inline Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline UniqueFd make_area(size_t bytes = kAreaBytes, int seals = F_SEAL_SHRINK | F_SEAL_GROW) {
  UniqueFd fd(memfd_create("area", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  CHECK(ftruncate(fd.get(), off_t(bytes)) == 0);
  CHECK(fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
  return fd;
}

inline proxy::Facts some_facts() {
  proxy::Facts facts{.area_bytes = kAreaBytes,
                     .max_pdu = 8 * 1024 * 1024,
                     .max_read_write = 1024 * 1024,
                     .max_operations = 3,
                     .client_guid = {std::byte{1}, std::byte{2}},
                     .client = {.family = 4, .port = 50001, .bytes = {}},
                     .server = {.family = 6, .port = 445, .bytes = {}},
                     .negotiate = pattern(120, 1)};
  constexpr std::array<uint8_t, 4> kClient{192, 0, 2, 7};
  std::memcpy(facts.client.bytes.data(), kClient.data(), kClient.size());
  facts.server.bytes[0] = std::byte{0x20};
  facts.server.bytes[15] = std::byte{1};
  return facts;
}

inline Bytes facts_frame(const proxy::Facts& facts = some_facts()) {
  return frame(FrameType::facts, proxy::encode_facts(facts));
}

/// One end of a socket, which blocks, but for no longer than 10 s. Its checks do not throw: threads use it.
class OtherSide {
 public:
  OtherSide() = default;
  explicit OtherSide(UniqueFd fd) : fd_(std::move(fd)) {
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    CHECK(setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    CHECK(setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0);
  }

  void say(const Bytes& bytes, std::span<const int> descriptors = {}) {
    const ssize_t sent = smbdirect::test::send_with(fd_.get(), bytes, descriptors);
    CHECK(sent == ssize_t(bytes.size()));
  }
  void say(const Bytes& bytes, int descriptor) { say(bytes, std::span(&descriptor, 1)); }

  /// What comes next, `size` bytes; fewer at the end.
  Bytes hear(size_t size) {
    Bytes bytes(size);
    size_t got = 0;
    while (got < size) {
      const ssize_t some = recv(fd_.get(), bytes.data() + got, std::min<size_t>(size - got, 100'000), 0);
      if (some <= 0) break;
      got += size_t(some);
    }
    bytes.resize(got);
    return bytes;
  }
  struct Heard {
    proxy::FrameHeader header;
    Bytes body;
  };
  Heard hear_frame(Sender sender = Sender::peer) {
    const Bytes bytes = hear(proxy::kFrameHeaderBytes);
    CHECK(bytes.size() == proxy::kFrameHeaderBytes);
    if (bytes.size() < proxy::kFrameHeaderBytes) return {};
    const auto header = proxy::parse_frame_header(
        std::span<const std::byte, proxy::kFrameHeaderBytes>(bytes.data(), bytes.size()), sender);
    CHECK(header.has_value());
    if (!header) return {};
    Heard heard{.header = *header, .body = hear(header->length)};
    CHECK(heard.body.size() == header->length);
    return heard;
  }
  bool silent() const {
    pollfd entry{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    return poll(&entry, 1, 0) == 0;
  }
  /// What was not read yet is lost to the other end.
  void close() { fd_.reset(); }
  UniqueFd take() { return std::move(fd_); }

 private:
  UniqueFd fd_;
};

/// Both ends block.
inline auto socket_pair() { return smbdirect::test::socket_pair(SOCK_STREAM); }

/// A listening socket in a directory of its own.
class Place {
 public:
  Place() : directory_((std::filesystem::temp_directory_path() / "smbdirect-peer-XXXXXX").string()) {
    REQUIRE(mkdtemp(directory_.data()) != nullptr);
    listener_ = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path().size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path().c_str(), path().size() + 1);
    REQUIRE(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(listen(listener_.get(), 8) == 0);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::string path() const { return directory_ + "/socket"; }
  [[nodiscard]] smbdirect_start start() const {
    smbdirect_start start{};
    std::memcpy(start.cookie, kCookie.bytes.data(), kCookie.bytes.size());
    std::memcpy(start.socket, path().c_str(), path().size() + 1);
    return start;
  }
  OtherSide accept() { return OtherSide(UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC))); }
  void stop_listening() { listener_.reset(); }
  /// `script` accepts and speaks while `action` blocks.
  int against(const std::function<void()>& script, const std::function<int()>& action) {
    const std::jthread other(script);
    return action();
  }

 private:
  std::string directory_;
  UniqueFd listener_;
};

/// A channel that is open, and its worker.
struct Opened {
  Channel channel;
  OtherSide worker;
  UniqueFd area;

  explicit Opened(const proxy::Facts& facts = some_facts()) : area(make_area(facts.area_bytes)) {
    Place place;
    smbdirect_channel* opened = nullptr;
    const smbdirect_start start = place.start();
    const int result = place.against(
        [&] {
          worker = place.accept();
          CHECK(worker.hear_frame().header.type == FrameType::hello);
          worker.say(facts_frame(facts), area.get());
        },
        [&] { return smbdirect_channel_open(&start, &opened); });
    REQUIRE(result == 0);
    channel.reset(opened);
  }
  smbdirect_channel* operator*() const { return channel.get(); }
  void attach() {
    REQUIRE(smbdirect_channel_attach(channel.get()) == 0);
    CHECK(worker.hear_frame().header.type == FrameType::attached);
  }
};

/// The bytes of a PDU event.
inline Bytes pdu_of(const smbdirect_event& event) {
  const auto bytes = std::as_bytes(std::span(event.pdu, event.pdu_size));
  return {bytes.begin(), bytes.end()};
}

inline int send_pdu(smbdirect_channel* channel, const Bytes& pdu, std::span<const uint32_t> tokens = {}) {
  const iovec piece{.iov_base = const_cast<std::byte*>(pdu.data()), .iov_len = pdu.size()};
  return smbdirect_send_pdu(channel, &piece, 1, tokens.data(), tokens.size());
}

/// Moves one byte at the area's beginning from the client.
inline int read_one(smbdirect_channel* channel, uint64_t id) {
  const smbdirect_descriptor memory{.offset = 0, .token = 1, .length = 1};
  return smbdirect_rdma_read(channel, id, 0, 1, &memory, 1);
}

/// The next event, waited for.
inline int await_event(smbdirect_channel* channel, smbdirect_event& event) {
  for (;;) {
    const int got = smbdirect_channel_next(channel, &event);
    if (got != 0) return got;
    pollfd entry{.fd = smbdirect_channel_fd(channel), .events = POLLIN, .revents = 0};
    if (poll(&entry, 1, 10'000) != 1) return 0;
  }
}

}  // namespace proxy_test
