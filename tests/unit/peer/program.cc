// SPDX-License-Identifier: MIT
#include "program.h"

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <doctest/doctest.h>

namespace scripted {

void Daemon::accept() {
  registration_ = accept_from(listening_.get());
  std::string line(proxy::kRegisterLine.size(), '\0');
  read_all(registration_.get(), std::as_writable_bytes(std::span(line)));
  CHECK(line == proxy::kRegisterLine);
  const auto version = proxy::encode_version();
  write_all(registration_.get(),
            with_header({.length = uint32_t{version.size()}, .type = proxy::FrameType::registered}, version));
}

void Daemon::start(uint64_t number, const Worker& worker) {
  const auto body = proxy::encode_start(worker.start_frame());
  write_all(registration_.get(),
            with_header(
                {.length = static_cast<uint32_t>(body.size()), .type = proxy::FrameType::start, .id = number},
                body));
}

uint64_t Daemon::failed() {
  std::array<std::byte, proxy::kFrameHeaderBytes> head{};
  read_all(registration_.get(), head);
  const auto header = proxy::parse_frame_header(head, proxy::Sender::main);
  REQUIRE(header.has_value());
  REQUIRE(header->type == proxy::FrameType::failed);
  CHECK(header->count != 0);
  return header->id;
}

void Daemon::restart() {
  registration_ = peer::Fd();
  listening_ = peer::Fd();
  REQUIRE(::unlink(path_.c_str()) == 0);
  listening_ = listen_at(path_);
}

Program::Program(const std::vector<std::string>& options) {
  const char* path = std::getenv("REFERENCE_PEER");
  REQUIRE_MESSAGE(path != nullptr, "REFERENCE_PEER is not set; meson test sets it");
  std::vector<char*> words{const_cast<char*>(path)};
  for (const std::string& option : options) words.push_back(const_cast<char*>(option.c_str()));
  words.push_back(nullptr);
  // Our end is closed on exec; its end becomes its stdout.
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  out_ = peer::Fd(ends[0]);
  const peer::Fd theirs(ends[1]);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ > 0) return;
  (void)::dup2(theirs.get(), STDOUT_FILENO);
  ::execv(path, words.data());
  ::_exit(127);
}

Program::~Program() {
  if (pid_ < 0) return;
  (void)::kill(pid_, SIGKILL);
  (void)::waitpid(pid_, nullptr, 0);
}

std::string Program::line() {
  std::string text;
  while (true) {
    pollfd polled{.fd = out_.get(), .events = POLLIN, .revents = 0};
    REQUIRE_MESSAGE(::poll(&polled, 1, kPatience * 1000) == 1, "after: " << text);
    char c = 0;
    REQUIRE_MESSAGE(::recv(out_.get(), &c, 1, 0) == 1, "after: " << text);
    if (c == '\n') return text;
    text += c;
  }
}

pid_t Program::child(uint64_t number) {
  const std::string text = line();
  const std::string rest = " number " + std::to_string(number) + " guid " + std::string(32, '0');
  REQUIRE_MESSAGE(text.starts_with("child "), text);
  REQUIRE_MESSAGE(text.ends_with(rest), text);
  return std::stoi(text.substr(std::strlen("child ")));
}

void Program::signal(int number) const { REQUIRE(::kill(pid_, number) == 0); }

int Program::wait() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience);
  int status = 0;
  while (::waitpid(pid_, &status, WNOHANG) == 0) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool stopped(pid_t pid) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience);
  while (std::chrono::steady_clock::now() < end) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string number;
    std::string name;
    std::string state;
    if (stat >> number >> name >> state && state == "T") return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace scripted
