// SPDX-License-Identifier: MIT
#include "scripted.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <doctest/doctest.h>

#include "tests/peer/serving.h"
#include "tests/unit/unix_sockets.h"

namespace scripted {
namespace {

constexpr int kMomentMs = 100;
constexpr proxy::Cookie kCookie{std::byte{1}, std::byte{2}, std::byte{3}};

void be_patient(int fd) {
  const timeval patience{.tv_sec = kPatience, .tv_usec = 0};
  REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
  REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0);
}

}  // namespace

Directory::Directory() : path((std::filesystem::temp_directory_path() / "peer-test-XXXXXX").string()) {
  REQUIRE(::mkdtemp(path.data()) != nullptr);
}

Directory::~Directory() { std::filesystem::remove_all(path); }

peer::Fd listen_at(const std::string& path) {
  peer::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(fd.get(), 4) == 0);
  return fd;
}

peer::Fd accept_from(int listening) {
  pollfd polled{.fd = listening, .events = POLLIN, .revents = 0};
  REQUIRE(::poll(&polled, 1, kPatience * 1000) == 1);
  peer::Fd fd(::accept4(listening, nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(bool(fd));
  be_patient(fd.get());
  return fd;
}

void read_all(int fd, std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t n = ::recv(fd, into.data(), into.size(), 0);
    REQUIRE(n > 0);
    into = into.subspan(static_cast<size_t>(n));
  }
}

void write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    REQUIRE(n > 0);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

Bytes with_header(const proxy::FrameHeader& header, std::span<const std::byte> body) {
  const auto head = proxy::encode_header(header);
  Bytes bytes(head.begin(), head.end());
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

Worker::Worker(const Settings& settings)
    : settings_(settings), listening_(listen_at(directory_.path + "/worker")) {
  memory_ = peer::Fd(::memfd_create("area", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(memory_.get(), static_cast<off_t>(settings_.area)) == 0);
  REQUIRE(::fcntl(memory_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  void* at = ::mmap(nullptr, settings_.area, PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0);
  REQUIRE(at != MAP_FAILED);
  area_ = {static_cast<std::byte*>(at), settings_.area};
}

Worker::~Worker() { (void)::munmap(area_.data(), area_.size()); }

proxy::Start Worker::start_frame() const {
  return {.cookie = kCookie, .client_guid = {}, .client = {}, .socket = directory_.path + "/worker"};
}

smbdirect_start Worker::start() const {
  smbdirect_start start{};
  start.number = 1;
  std::memcpy(start.cookie, kCookie.bytes.data(), kCookie.bytes.size());
  const std::string path = start_frame().socket;
  std::memcpy(start.socket, path.c_str(), path.size() + 1);
  return start;
}

void Worker::accept(std::span<const std::byte> negotiate) {
  accept_unattached(negotiate);
  await_attached();
}

void Worker::accept_unattached(std::span<const std::byte> negotiate) {
  channel_ = accept_from(listening_.get());
  const Frame hello = receive();
  REQUIRE(hello.header.type == proxy::FrameType::hello);
  const auto cookie = proxy::parse_hello(hello.body);
  REQUIRE(cookie.has_value());
  CHECK(*cookie == kCookie);
  introduce(negotiate);
}

void Worker::arrive_with(Worker& served, std::span<const std::byte> negotiate) {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  channel_ = peer::Fd(ends[0]);
  be_patient(channel_.get());
  const peer::Fd theirs(ends[1]);
  served.send({.length = 0, .type = proxy::FrameType::channel}, {}, theirs.get());
  introduce(negotiate);
  await_attached();
}

void Worker::introduce(std::span<const std::byte> negotiate) {
  proxy::Facts facts;
  facts.area_bytes = settings_.area;
  facts.max_pdu = 8 * 1024 * 1024 + 128 * 1024;
  facts.max_read_write = 8 * 1024 * 1024;
  facts.max_operations = settings_.max_operations;
  facts.negotiate.assign(negotiate.begin(), negotiate.end());
  const auto body = proxy::encode_facts(facts);
  send({.length = static_cast<uint32_t>(body.size()), .type = proxy::FrameType::facts}, body, memory_.get());
}

void Worker::await_attached() {
  const Frame attached = receive();
  REQUIRE(attached.header.type == proxy::FrameType::attached);
}

void Worker::send(const proxy::FrameHeader& header, std::span<const std::byte> body, int descriptor) {
  Bytes bytes = with_header(header, body);
  if (descriptor < 0) return write_all(channel_.get(), bytes);
  REQUIRE(smbdirect::test::send_with(channel_.get(), bytes, descriptor) ==
          static_cast<ssize_t>(bytes.size()));
}

bool Worker::ended() {
  std::byte byte{};
  return ::recv(channel_.get(), &byte, 1, 0) == 0;
}

Worker::Frame Worker::receive() {
  std::array<std::byte, proxy::kFrameHeaderBytes> head{};
  read_all(channel_.get(), head);
  const auto header = proxy::parse_frame_header(head, proxy::Sender::peer);
  REQUIRE(header.has_value());
  Frame frame{.header = *header, .body = Bytes(header->length)};
  read_all(channel_.get(), frame.body);
  return frame;
}

bool Worker::quiet() {
  pollfd polled{.fd = channel_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&polled, 1, kMomentMs) == 0;
}

Bytes Worker::pdu_frame(std::span<const std::byte> pdu) {
  return with_header({.length = static_cast<uint32_t>(pdu.size()), .type = proxy::FrameType::pdu}, pdu);
}

void Worker::send_pdu(std::span<const std::byte> pdu) { write_all(channel_.get(), pdu_frame(pdu)); }

size_t Worker::send_some(std::span<const std::byte> bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n =
        ::send(channel_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      sent += static_cast<size_t>(n);
      continue;
    }
    REQUIRE(errno == EAGAIN);
    pollfd polled{.fd = channel_.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&polled, 1, 3 * kMomentMs) == 0) break;
  }
  return sent;
}

void Worker::send_done(uint64_t id) { send({.length = 0, .type = proxy::FrameType::done, .id = id}, {}); }

std::pair<uint64_t, proxy::Operation> Worker::operation(proxy::FrameType type) {
  const Frame frame = receive();
  REQUIRE(frame.header.type == type);
  proxy::Operation operation;
  REQUIRE(proxy::parse_operation(frame.body, frame.header.count, operation).has_value());
  REQUIRE(operation.area_offset + operation.length <= area_.size());
  return {frame.header.id, std::move(operation)};
}

Worker::Reply Worker::reply() {
  const Frame frame = receive();
  REQUIRE(frame.header.type == proxy::FrameType::reply);
  Reply reply;
  for (size_t i = 0; i < frame.header.count; ++i) {
    reply.invalidate.push_back(smb2::wire::load32(frame.body, 4 * i));
  }
  reply.pdu.assign(frame.body.begin() + 4 * frame.header.count, frame.body.end());
  return reply;
}

Smbd::Smbd() : listening_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0);
  REQUIRE(::listen(listening_.get(), 4) == 0);
}

peer::SmbdAddress Smbd::address() const {
  peer::SmbdAddress address;
  address.length = sizeof address.address;
  REQUIRE(::getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&address.address), &address.length) ==
          0);
  return address;
}

std::string Smbd::address_text() const {
  const peer::SmbdAddress mine = address();
  return "127.0.0.1:" + std::to_string(ntohs(reinterpret_cast<const sockaddr_in&>(mine.address).sin_port));
}

Bytes Smbd::Connection::receive() {
  std::array<std::byte, smb2::kNbtBytes> word{};
  read_all(fd_.get(), word);
  const auto length = smb2::parse_nbt(word);
  REQUIRE(length.has_value());
  Bytes pdu(*length);
  read_all(fd_.get(), pdu);
  return pdu;
}

void Smbd::Connection::send(std::span<const std::byte> pdu) {
  write_all(fd_.get(), smb2::encode_nbt(static_cast<uint32_t>(pdu.size())));
  write_all(fd_.get(), pdu);
}

bool Smbd::Connection::closed() {
  std::byte byte{};
  return ::recv(fd_.get(), &byte, 1, 0) == 0;
}

Peer::Peer(const smbdirect_start& start, const peer::SmbdAddress& smbd)
    : thread_([start, smbd] {
        smbdirect_channel* channel = nullptr;
        if (smbdirect_channel_open(&start, &channel) < 0) return;
        peer::Options options;
        options.smbd = smbd;
        peer::Serving serving(options);
        serving.add(peer::ChannelPtr(channel));
        while (!serving.empty()) serving.turn({});
      }) {}

}  // namespace scripted
