// SPDX-License-Identifier: MIT
// smbdirect-bench: one measurement over one path, told by its options; one JSON object per line on stdout.
// scripts/bench starts it, many times, and samples the other processes' CPU time between the two events.
#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <string_view>
#include <sys/resource.h>

#include <nlohmann/json.hpp>
#include <uv.h>

#include "tests/bench/client.h"
#include "tests/bench/smbdirect_link.h"
#include "tests/bench/tcp_link.h"

namespace smbdirect::tests::bench {

namespace {

using nlohmann::json;

constexpr char kUsage[] =
    "usage: smbdirect-bench (--tcp | --smbdirect) ADDR:PORT --work WORK [option value]...\n"
    "  --work prepare|read|write|setup   prepare writes the file that read reads; setup: connection rate\n"
    "  --share NAME --file NAME --file-bytes N --size BYTES --depth N --seconds S --warmup S\n"
    "  --crc on|off --channel 0|1|2      SMB Direct: CRC32C wanted; data inline, RDMA_V1, "
    "RDMA_V1_INVALIDATE\n"
    "  --sync yes                        print an event and wait for a line before the timed part and after "
    "it\n";

class Usage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Options {
  sockaddr_in to{};
  bool smbdirect = false;
  std::string work;
  std::string share = "share";
  std::string file = "bench.dat";
  uint64_t file_bytes = 64u << 20;
  uint32_t size = 1u << 20;
  uint32_t depth = 1;
  double seconds = 1;
  double warmup = 0.05;
  bool crc = true;
  uint32_t channel = 2;
  bool sync = false;
};

sockaddr_in parse_address(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const size_t colon = text.rfind(':');
  const int port = colon == std::string::npos ? 0 : std::atoi(text.c_str() + colon + 1);
  if (port <= 0 || port > 65535 ||
      ::inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    throw Usage("not an IPv4 address and port: " + text);
  }
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

template <class T>
T parse_number(const std::string& name, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || value < 0 || value > 1e12)
    throw Usage(name + ": not a number: " + text);
  return static_cast<T>(value);
}

Options parse_options(int argc, char** argv) {
  Options o;
  bool addressed = false;
  const std::map<std::string_view, std::function<void(const std::string&, const std::string&)>> table{
      {"--tcp", [&](auto&, auto& v) { o.to = parse_address(v), addressed = true; }},
      {"--smbdirect", [&](auto&, auto& v) { o.to = parse_address(v), addressed = o.smbdirect = true; }},
      {"--work", [&](auto&, auto& v) { o.work = v; }},
      {"--share", [&](auto&, auto& v) { o.share = v; }},
      {"--file", [&](auto&, auto& v) { o.file = v; }},
      {"--file-bytes", [&](auto& n, auto& v) { o.file_bytes = parse_number<uint64_t>(n, v); }},
      {"--size", [&](auto& n, auto& v) { o.size = parse_number<uint32_t>(n, v); }},
      {"--depth", [&](auto& n, auto& v) { o.depth = parse_number<uint32_t>(n, v); }},
      {"--seconds", [&](auto& n, auto& v) { o.seconds = parse_number<double>(n, v); }},
      {"--warmup", [&](auto& n, auto& v) { o.warmup = parse_number<double>(n, v); }},
      {"--crc", [&](auto&, auto& v) { o.crc = v == "on"; }},
      {"--channel", [&](auto& n, auto& v) { o.channel = parse_number<uint32_t>(n, v); }},
      {"--sync", [&](auto&, auto& v) { o.sync = v == "yes"; }},
  };
  for (int i = 1; i < argc; i += 2) {
    const auto found = table.find(argv[i]);
    if (found == table.end()) throw Usage(std::string("unknown option ") + argv[i]);
    if (i + 1 == argc) throw Usage(std::string("a value must follow ") + argv[i]);
    found->second(argv[i], argv[i + 1]);
  }
  if (!addressed) throw Usage("--tcp or --smbdirect must say where to connect");
  if (!o.smbdirect) o.channel = 0;
  if (o.size == 0 || o.size % kPageBytes != 0 || o.size > (8u << 20)) {
    throw Usage("--size must be a multiple of 4096, at most 8 MiB");
  }
  if (o.depth == 0 || o.depth > 64) throw Usage("--depth must be 1 to 64");
  if (o.channel > 2) throw Usage("--channel must be 0, 1 or 2");
  // Twice the depth, so that no piece is written by two requests at once.
  if (o.file_bytes % o.size != 0 || o.file_bytes / o.size < 2 * o.depth) {
    throw Usage("--file-bytes must be a multiple of --size, and at least twice --depth of them");
  }
  return o;
}

/// CPU seconds this process has used.
double cpu_seconds() {
  rusage usage{};
  (void)::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void event(const Options& options, const char* name) {
  if (!options.sync) return;
  std::cout << json{{"event", name}}.dump() << std::endl;
  std::string line;
  if (!std::getline(std::cin, line)) throw Failure("standard input ended");
}

/// The loop and what must outlive every connection on it.
class Loop {
 public:
  Loop() {
    if (uv_loop_init(&loop_) != 0) throw Failure("no event loop");
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() {
    (void)uv_run(&loop_, UV_RUN_DEFAULT);  // handles that are still closing
    (void)uv_loop_close(&loop_);
  }
  uv_loop_t& get() { return loop_; }

 private:
  uv_loop_t loop_{};
};

constexpr uint64_t kPreparedGeneration = 1;

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options) {}

  json run() {
    if (options_.work == "setup") return setup_rate();
    Client client(loop_.get(), make_link(), options_.channel);
    client.connect();
    client.log_in(options_.share);
    const bool read = options_.work == "read";
    client.open(options_.file, read ? Disposition::open : Disposition::overwrite_if);
    json out = options_.work == "prepare" ? prepare(client) : transfer(client, !read);
    if (const auto* link = dynamic_cast<const SmbDirectLink*>(link_)) out["counters"] = counters(*link);
    client.close_file();
    client.disconnect();
    return out;
  }

 private:
  Client::MakeLink make_link() {
    return [this](uv_loop_t& loop, Link::Owner& owner) -> std::unique_ptr<Link> {
      std::unique_ptr<Link> link;
      if (options_.smbdirect) {
        link = std::make_unique<SmbDirectLink>(loop, options_.to, options_.crc, memory_, owner);
      } else {
        link = std::make_unique<TcpLink>(loop, options_.to, owner);
      }
      link_ = link.get();
      return link;
    };
  }

  static json counters(const SmbDirectLink& link) {
    const workers::Counters values = link.counters();
    json out;
    for (const auto& row : workers::Counters::table()) out[std::string(row.name)] = values.*row.field;
    return out;
  }

  Client::Job job(bool write) const {
    return {
        .write = write, .size = options_.size, .depth = options_.depth, .file_bytes = options_.file_bytes};
  }

  json prepare(Client& client) const {
    Client::Job work = job(true);
    work.operations = options_.file_bytes / options_.size;
    work.generation = kPreparedGeneration;
    const Client::Done done = client.run(work);
    return {{"work", options_.work}, {"bytes", done.bytes}};
  }

  json transfer(Client& client, bool write) const {
    Client::Job work = job(write);
    work.generation = write ? 0 : kPreparedGeneration;
    work.seconds = options_.warmup;
    (void)client.run(work);
    event(options_, "begin");
    const double before = cpu_seconds();
    work.seconds = options_.seconds;
    const Client::Done done = client.run(work);
    const double cpu = cpu_seconds() - before;
    event(options_, "end");
    const uint64_t read_back = write ? client.verify_written(options_.size, options_.depth) : 0;
    return {{"work", options_.work},
            {"size", options_.size},
            {"depth", options_.depth},
            {"operations", done.operations},
            {"bytes", done.bytes},
            {"seconds", done.seconds},
            {"cpu_seconds", cpu},
            {"checked_pages", done.checked_pages + read_back / kPageBytes},
            {"checked_bytes", done.checked_bytes + read_back}};
  }

  json setup_rate() {
    const auto once = [this] {
      Client client(loop_.get(), make_link(), options_.channel);
      client.connect();
      client.disconnect();
    };
    once();
    event(options_, "begin");
    const double cpu_before = cpu_seconds();
    const double start = now_seconds();
    uint64_t count = 0;
    while (now_seconds() - start < options_.seconds) {
      once();
      ++count;
    }
    const double seconds = now_seconds() - start;
    const double cpu = cpu_seconds() - cpu_before;
    event(options_, "end");
    return {{"work", options_.work}, {"operations", count}, {"seconds", seconds}, {"cpu_seconds", cpu}};
  }

  const Options options_;
  SmbDirectLink::Memory memory_;
  Loop loop_;  // dies before the memory
  const Link* link_ = nullptr;
};

}  // namespace

int run(int argc, char** argv) {
  try {
    const Options options = parse_options(argc, argv);
    if (options.work != "prepare" && options.work != "read" && options.work != "write" &&
        options.work != "setup") {
      throw Usage("--work must be prepare, read, write or setup");
    }
    std::cout << Bench(options).run().dump() << std::endl;
    return 0;
  } catch (const Usage& error) {
    std::cerr << "smbdirect-bench: " << error.what() << '\n' << kUsage;
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "smbdirect-bench: " << error.what() << '\n';
    return 1;
  }
}

}  // namespace smbdirect::tests::bench

int main(int argc, char** argv) { return smbdirect::tests::bench::run(argc, argv); }
