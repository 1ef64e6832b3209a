// SPDX-License-Identifier: MIT
#include "tests/unit/daemon/pool_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"

namespace test {
namespace {

namespace shm = smbdirect::shm;
constexpr int kPatienceMs = 20'000;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  REQUIRE_MESSAGE(value != nullptr, std::string(name) << " is not set; meson test sets it");
  return value;
}

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

bool process_exists(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string number, name, state;
  return bool(stat >> number >> name >> state) && state != "Z";
}

Client::Client(int port, const std::string& source, const std::string& server)
    : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const auto from = *shm::address_from_text(source, 0);
  const auto to = *shm::address_from_text(server, uint16_t(port));
  REQUIRE(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&from), sizeof(sockaddr_in)) == 0);
  if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(sockaddr_in)) != 0) fd_.reset();
}

std::optional<std::string> Client::line(int milliseconds) {
  std::string text;
  while (fd_.valid()) {
    pollfd poll_fd{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    if (poll(&poll_fd, 1, milliseconds) != 1) return std::nullopt;
    char c = 0;
    if (recv(fd_.get(), &c, 1, 0) != 1) return std::nullopt;
    if (c == '\n') return text;
    text += c;
  }
  return std::nullopt;
}

std::optional<std::string> Client::greeting() {
  auto text = line(kPatienceMs);
  if (text) worker_ = std::stoi(text->substr(text->find("pid=") + 4));
  return text;
}

size_t Client::slot() {
  const auto text = greeting();
  REQUIRE(text);
  return std::stoul(text->substr(text->find("slot=") + 5));
}

bool Client::echoes() {
  return fd_.valid() && send(fd_.get(), "hello\n", 6, MSG_NOSIGNAL) == 6 && line(kPatienceMs) == "hello";
}

bool Client::logs_in() {
  return fd_.valid() && send(fd_.get(), "login\n", 6, MSG_NOSIGNAL) == 6 && line(kPatienceMs) == "login";
}

bool Client::closed_within(int milliseconds) {
  if (!fd_.valid()) return true;
  pollfd poll_fd{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  if (poll(&poll_fd, 1, milliseconds) != 1) return false;
  char c = 0;
  return recv(fd_.get(), &c, 1, 0) <= 0;
}

bool Client::is_reset() {
  pollfd poll_fd{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  char c = 0;
  return fd_.valid() && poll(&poll_fd, 1, kPatienceMs) == 1 && recv(fd_.get(), &c, 1, 0) < 0 &&
         errno == ECONNRESET;
}

CommandResult run_daemon(const std::vector<std::string>& arguments) {
  const std::string program = environment("SMBDIRECTD");
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  const shm::UniqueFd in(ends[0]);
  shm::UniqueFd out(ends[1]);
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), "smbdirectd");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    dup2(out.get(), STDOUT_FILENO);
    dup2(out.get(), STDERR_FILENO);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  out.reset();
  CommandResult result;
  std::array<char, 4096> text;
  for (ssize_t got = 0; (got = read(in.get(), text.data(), text.size())) > 0;) {
    result.output.append(text.data(), size_t(got));
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

void PoolProcess::write_file(const std::string& text) const {
  std::ofstream(directory_ + "/pool.json") << text;
}

void PoolProcess::rewrite(const PoolOptions& options) const {
  write_file("{\"run_directory\": \"" + directory_ + "/run\", \"workers\": " +
             std::to_string(options.workers) + ", \"listeners\": " + options.listeners +
             ", \"upstream\": {\"mode\": \"connect\", \"address\": \"127.0.0.1\"" + options.upstream +
             "}, \"log\": {\"level\": \"debug\"}" + options.more + "}\n");
}

std::string PoolProcess::ask(const std::string& line) const {
  const shm::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = directory_ + "/run/control";
  REQUIRE(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  REQUIRE(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(send(fd.get(), (line + "\n").data(), line.size() + 1, MSG_NOSIGNAL) == ssize_t(line.size() + 1));
  std::string answer;
  std::array<char, 4096> part;
  pollfd waiting{.fd = fd.get(), .events = POLLIN, .revents = 0};
  while (!answer.ends_with('\n')) {
    REQUIRE(poll(&waiting, 1, kPatienceMs) == 1);
    const ssize_t got = recv(fd.get(), part.data(), part.size(), 0);
    REQUIRE(got > 0);
    answer.append(part.data(), size_t(got));
  }
  return answer;
}

PoolProcess::PoolProcess(const PoolOptions& options) {
  std::string pattern = (std::filesystem::temp_directory_path() / "smbdirectd-test-XXXXXX").string();
  REQUIRE(mkdtemp(pattern.data()) != nullptr);
  directory_ = pattern;
  const std::string file = directory_ + "/pool.json";
  rewrite(options);
  const std::string program = environment("SMBDIRECTD");
  const std::string worker = environment("FAKE_WORKER_PROGRAM");
  const std::string log_file = directory_ + "/log";
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  ready_ = shm::UniqueFd(ends[0]);
  shm::UniqueFd ready_out(ends[1]);
  pid_ = fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    const int log_fd = open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log_fd, STDERR_FILENO);
    close(STDIN_FILENO);  // an init may start it so
    close(STDOUT_FILENO);
    // A parent that blocked and ignored signals.
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    ::signal(SIGCHLD, SIG_IGN);
    // The ready descriptor, and strays that no worker may inherit.
    dup2(ready_out.get(), 9);
    dup2(STDERR_FILENO, 15);
    dup2(STDERR_FILENO, 33);
    if (options.descriptors > 0) {
      const rlimit limit{options.descriptors, options.descriptors};
      setrlimit(RLIMIT_NOFILE, &limit);
    }
    setenv("FAKE_WORKER", options.mode.c_str(), 1);
    unsetenv("JOURNAL_STREAM");
    if (options.notify.empty()) {
      unsetenv("NOTIFY_SOCKET");
    } else {
      setenv("NOTIFY_SOCKET", options.notify.c_str(), 1);
    }
    execl(program.c_str(), "smbdirectd", "-F", "-s", file.c_str(), "--worker", worker.c_str(), "--ready-fd",
          "9", nullptr);
    _exit(127);
  }
  if (!options.wait) return;
  wait_log("listening on ");
  const std::string text = log();
  const std::string before = " port ";
  const size_t at = text.find(before, text.find("listening on "));
  port_ = std::stoi(text.substr(at + before.size()));
}

PoolProcess::~PoolProcess() {
  // Workers by the log: those of a killed supervisor are nobody's children.
  std::vector<pid_t> workers;
  const std::string text = log();
  const std::string before = "(pid ";
  for (size_t at = text.find(before); at != std::string::npos; at = text.find(before, at + 1)) {
    workers.push_back(std::atoi(text.c_str() + at + before.size()));
  }
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  for (const pid_t worker : workers) {
    const std::filesystem::path executable("/proc/" + std::to_string(worker) + "/exe");
    std::error_code error;
    const auto target = std::filesystem::read_symlink(executable, error);
    if (!error && target.filename() == "fake_worker") ::kill(worker, SIGKILL);
  }
  std::filesystem::remove_all(directory_);
}

std::string PoolProcess::log() const {
  std::ifstream in(directory_ + "/log");
  return {std::istreambuf_iterator<char>(in), {}};
}

bool PoolProcess::said_ready() {
  pollfd poll_fd{.fd = ready_.get(), .events = POLLIN, .revents = 0};
  char c = 0;
  return poll(&poll_fd, 1, kPatienceMs) == 1 && read(ready_.get(), &c, 1) == 1 && c == '\n' &&
         read(ready_.get(), &c, 1) == 0;
}

void PoolProcess::signal(int number) const { REQUIRE(::kill(pid_, number) == 0); }

int PoolProcess::wait_exit() {
  int status = 0;
  const bool ended = eventually([&] { return waitpid(pid_, &status, WNOHANG) == pid_; });
  REQUIRE_MESSAGE(ended, "the daemon did not end: " << log());
  pid_ = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

size_t PoolProcess::count_log(const std::string& text) const {
  const std::string all = log();
  size_t count = 0;
  for (size_t at = all.find(text); at != std::string::npos; at = all.find(text, at + 1)) ++count;
  return count;
}

void PoolProcess::wait_log(const std::string& text, size_t times) const {
  const bool found = eventually([&] { return count_log(text) >= times; });
  REQUIRE_MESSAGE(found, "\"" << text << "\" is not in the log: " << log());
}

std::vector<int> PoolProcess::descriptors(pid_t pid) {
  std::vector<int> numbers;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    numbers.push_back(std::stoi(entry.path().filename().string()));
  }
  std::ranges::sort(numbers);
  return numbers;
}

std::string PoolProcess::descriptor(pid_t pid, int fd) {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd), error)
      .string();
}

pid_t PoolProcess::worker(size_t slot) const {
  const std::string text = log();
  const std::string before = "worker " + std::to_string(slot) + " (pid ";
  const size_t at = text.rfind(before);
  REQUIRE(at != std::string::npos);
  return std::atoi(text.c_str() + at + before.size());
}

}  // namespace test
