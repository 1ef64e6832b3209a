// SPDX-License-Identifier: MIT
#include "daemon/config/pool_file.h"

#include <algorithm>
#include <cerrno>
#include <concepts>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sched.h>
#include <tuple>
#include <type_traits>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "daemon/config/placement_text.h"
#include "daemon/config/pool_keys.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {
namespace {

/// A socket's path has 107 bytes; the longest of ours ends in "/channel-63.4194304".
constexpr size_t kLongestRunDirectory = 88;

/// How many letters apart two words are; to guess what a misspelt key was meant to be.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({changed, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row.back();
}

std::string unknown_key_text(std::string_view name, std::string_view parent) {
  std::string known;
  std::string_view nearest;
  size_t distance = 1 + std::max<size_t>(2, name.size() / 3);
  for (const Key& key : pool_keys()) {
    if (key.parent() != parent) continue;
    known += (known.empty() ? "" : ", ") + std::string(key.name());
    if (name.size() > 64) continue;
    if (const size_t d = edit_distance(name, key.name()); d < distance) {
      distance = d;
      nearest = key.name();
    }
  }
  std::string text = "is not a known key";
  if (!nearest.empty()) text += "; did you mean \"" + std::string(nearest) + "\"?";
  return text + "; allowed here: " + known;
}

uint64_t usable_processors() {
  cpu_set_t usable;
  return sched_getaffinity(0, sizeof usable, &usable) == 0 ? uint64_t(CPU_COUNT(&usable)) : 1;
}

/// Walks the tree along the table.
class Validator {
 public:
  Validator(PoolConfig& config, Problems& problems) : config_(config), problems_(problems) {}

  void object(const Node& node, std::string_view pointer, std::string_view table_pointer, size_t index) {
    for (const Node& member : node.members) {
      const std::string at = pointer_to(pointer, member.name);
      const Key* key = find(table_pointer, member.name);
      if (key == nullptr) {
        report(at, member.name_line, unknown_key_text(member.name, table_pointer));
      } else {
        value(*key, member, at, index);
      }
    }
    for (const Key& key : pool_keys()) {
      if (!key.required || key.parent() != table_pointer) continue;
      const bool present =
          std::ranges::any_of(node.members, [&](const auto& m) { return m.name == key.name(); });
      if (!present)
        report(pointer_to(pointer, key.name()), node.line, "is missing; required: " + allowed_text(key));
    }
  }

 private:
  static const Key* find(std::string_view parent, std::string_view name) {
    const auto found = std::ranges::find_if(
        pool_keys(), [&](const Key& key) { return key.parent() == parent && key.name() == name; });
    return found == pool_keys().end() ? nullptr : &*found;
  }

  void value(const Key& key, const Node& node, const std::string& at, size_t index) {
    switch (key.type) {
      case KeyType::object:
        if (node.kind != Node::Kind::object) return wrong(key, node, at);
        return object(node, at, key.pointer, index);
      case KeyType::objects:
        return objects(key, node, at);
      case KeyType::integer:
        return integer(key, node, at, index);
      case KeyType::boolean:
        if (node.kind != Node::Kind::boolean) return wrong(key, node, at);
        *std::get<bool*>(key.slot(config_, index)) = node.boolean;
        return;
      case KeyType::text:
        if (node.kind != Node::Kind::string || node.text.find('\0') != std::string::npos)
          return wrong(key, node, at);
        *std::get<std::string*>(key.slot(config_, index)) = node.text;
        return;
      case KeyType::choice:
        return choice(key, node, at, index);
      case KeyType::address:
        if (node.kind != Node::Kind::string ||
            !(shm::address_from_text(node.text, 0) || may_be_empty(key, node)))
          return wrong(key, node, at);
        *std::get<std::string*>(key.slot(config_, index)) = node.text;
        return;
      case KeyType::networks:
        return networks(key, node, at, index);
      case KeyType::processors:
        if (node.kind != Node::Kind::string || !is_placement(node.text)) return wrong(key, node, at);
        *std::get<std::string*>(key.slot(config_, index)) = node.text;
        return;
    }
  }

  /// As in a dump, where a key that is not given has its default.
  static bool may_be_empty(const Key& key, const Node& node) { return !key.required && node.text.empty(); }

  void objects(const Key& key, const Node& node, const std::string& at) {
    constexpr size_t kMost = 64;
    if (node.kind != Node::Kind::array || node.members.empty()) return wrong(key, node, at);
    if (node.members.size() > kMost) {
      return report(at, node.line, "has more than " + std::to_string(kMost) + " elements");
    }
    const std::string element_pointer = std::string(key.pointer) + "/*";
    for (size_t i = 0; i < node.members.size(); ++i) {
      const Node& element = node.members[i];
      const std::string element_at = pointer_to(at, std::to_string(i));
      config_.listeners.emplace_back();  // the one array of objects there is
      if (element.kind != Node::Kind::object) {
        report(element_at, element.line, is(element) + "; allowed: an object");
      } else {
        object(element, element_at, element_pointer, i);
        ListenerConfig& listener = config_.listeners[i];
        const bool has_port =
            std::ranges::any_of(element.members, [](const auto& m) { return m.name == "port"; });
        if (listener.fabric == Fabric::verbs) {
          config_.worker.verbs = true;
          if (!has_port) listener.port = ListenerConfig::kVerbsPort;
        }
      }
    }
  }

  void integer(const Key& key, const Node& node, const std::string& at, size_t index) {
    uint64_t value = node.natural;
    if (key.automatic && node.kind == Node::Kind::string && node.text == "auto") {
      value = std::clamp<uint64_t>(usable_processors(), key.min, key.max);
    } else if (node.kind != Node::Kind::natural || value < key.min || value > key.max) {
      return wrong(key, node, at);
    }
    std::visit(
        [&](auto slot) {
          if constexpr (requires {
                          requires std::unsigned_integral<std::remove_pointer_t<decltype(slot)>>;
                        }) {
            *slot = static_cast<std::remove_pointer_t<decltype(slot)>>(value);
          }
        },
        key.slot(config_, index));
  }

  void choice(const Key& key, const Node& node, const std::string& at, size_t index) {
    const auto found = std::ranges::find(key.choices, node.text);
    if (node.kind != Node::Kind::string || found == key.choices.end()) {
      return wrong(key, node, at);
    }
    const auto chosen = size_t(found - key.choices.begin());
    std::visit(
        [&](auto slot) {
          using Value = std::remove_pointer_t<decltype(slot)>;
          if constexpr (std::is_enum_v<Value>) *slot = static_cast<Value>(chosen);
        },
        key.slot(config_, index));
  }

  void networks(const Key& key, const Node& node, const std::string& at, size_t index) {
    if (node.kind != Node::Kind::array) return wrong(key, node, at);
    auto& list = *std::get<std::vector<Cidr>*>(key.slot(config_, index));
    for (size_t i = 0; i < node.members.size(); ++i) {
      const Node& element = node.members[i];
      const std::string element_at = pointer_to(at, std::to_string(i));
      if (element.kind != Node::Kind::string) {
        report(element_at, element.line, is(element) + "; allowed: a network, such as \"10.0.0.0/8\"");
      } else if (auto network = Cidr::parse(element.text); network) {
        list.push_back(*network);
      } else {
        report(element_at, element.line,
               element.shown() + " " + network.error() + "; allowed: a network, such as \"10.0.0.0/8\"");
      }
    }
  }

  static std::string is(const Node& node) { return "is " + node.shown(); }
  void wrong(const Key& key, const Node& node, const std::string& at) {
    report(at, node.line, is(node) + "; allowed: " + allowed_text(key));
  }
  void report(std::string at, uint32_t line, std::string text) {
    problems_.push_back({.pointer = std::move(at), .line = line, .text = std::move(text)});
  }

  PoolConfig& config_;
  Problems& problems_;
};

/// The node at a pointer of plain names and indices; the nearest one above it when it is not there.
const Node& nearest_node(const Node& root, std::string_view pointer) {
  const Node* node = &root;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const std::string_view token = pointer.substr(0, pointer.find('/'));
    const Node* next = nullptr;
    for (size_t i = 0; i < node->members.size() && next == nullptr; ++i) {
      const bool array = node->kind == Node::Kind::array;
      if (array ? std::to_string(i) == token : node->members[i].name == token) next = &node->members[i];
    }
    if (next == nullptr) return *node;
    node = next;
    pointer.remove_prefix(token.size());
  }
  return *node;
}

/// What must hold between keys. Only for files whose single values are right.
void check_together(const PoolConfig& config, const Node& root, Problems& problems) {
  const auto report = [&](std::string pointer, std::string text) {
    const uint32_t line = nearest_node(root, pointer).line;
    problems.push_back({.pointer = std::move(pointer), .line = line, .text = std::move(text)});
  };
  const auto at_most = [&](std::string pointer, uint64_t value, const std::string& other, uint64_t limit) {
    if (value <= limit) return;
    report(std::move(pointer), "is " + std::to_string(value) + ", above " + other + " (" +
                                   std::to_string(limit) + "); allowed: at most that");
  };
  at_most("/smbdirect/receive_credit_initial", config.worker.receive_credit_initial,
          "/smbdirect/receive_credit_max", config.worker.receive_credit_max);
  at_most("/limits/buffered_bytes_per_connection", config.worker.buffered_bytes_per_connection,
          "/limits/buffered_bytes_per_worker", config.worker.buffered_bytes_per_worker);
  at_most("/restart/backoff_increment_s", config.restart.backoff_increment_s, "/restart/maximum_backoff_s",
          config.restart.maximum_backoff_s);
  at_most("/restart/ping_interval_ms", config.restart.ping_interval_ms, "/restart/ping_timeout_ms",
          config.restart.ping_timeout_ms);

  if (config.upstream_mode == UpstreamMode::connect && config.worker.upstream_address.empty()) {
    report("/upstream/address", "is missing; required with mode \"connect\": a numeric IPv4 or IPv6 address");
  }
  if (config.upstream_mode == UpstreamMode::native && config.run_directory.size() > kLongestRunDirectory) {
    report("/run_directory",
           "is " + std::to_string(config.run_directory.size()) +
               " characters long; allowed with mode \"channel\", whose sockets are there: at most " +
               std::to_string(kLongestRunDirectory));
  }
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const auto address = *shm::address_from_text(config.listeners[i].address, config.listeners[i].port);
    const std::string pointer = "/listeners/" + std::to_string(i);
    for (size_t j = 0; j < i && config.listeners[i].port != 0; ++j) {
      const auto other = *shm::address_from_text(config.listeners[j].address, config.listeners[j].port);
      // RDMA devices have port numbers of their own.
      if (config.listeners[i].fabric != config.listeners[j].fabric) continue;
      if (shm::address_text(address) == shm::address_text(other)) {
        report(pointer, "is " + shm::address_text(address) + ", the same as /listeners/" + std::to_string(j) +
                            "; allowed: each address and port once");
        break;
      }
    }
    // smbd would see every client as coming from the worker's address, often 127.0.0.1, which passes its
    // "hosts allow" whatever that says.
    if (!config.access.everyone && !shm::is_loopback(shm::host_of(address)) && config.access.allow.empty()) {
      report(pointer + "/address",
             "is \"" + config.listeners[i].address +
                 "\", which is not a loopback address, while /upstream/allow is empty or missing: with mode "
                 "\"connect\" smbd does not see the clients' addresses, so its \"hosts allow\" does not "
                 "protect it; add the networks of your clients, such as \"upstream\": { \"allow\": "
                 "[\"192.0.2.0/24\"] }");
    }
  }
}

WorkerConfig::Upstream worker_upstream(UpstreamMode mode) {
  switch (mode) {
    case UpstreamMode::transparent:
    case UpstreamMode::handoff:
      return WorkerConfig::Upstream::ask;
    case UpstreamMode::connect:
      break;
    case UpstreamMode::native:
      return WorkerConfig::Upstream::native;
  }
  return WorkerConfig::Upstream::connect;
}

}  // namespace

std::expected<PoolConfig, Problems> parse_pool(std::string_view text) {
  auto document = read_document(text);
  if (!document) return std::unexpected(Problems{std::move(document.error())});
  PoolConfig config;
  Problems problems = std::move(document->duplicates);
  const Node& root = document->root;
  if (root.kind != Node::Kind::object) {
    return std::unexpected(
        Problems{{.line = root.line, .text = "is " + root.shown() + "; allowed: an object"}});
  }
  Validator(config, problems).object(root, "", "", 0);
  config.access.everyone = config.upstream_mode != UpstreamMode::connect;  // smbd or the peer decides
  config.worker.upstream = worker_upstream(config.upstream_mode);
  if (problems.empty()) check_together(config, root, problems);
  if (problems.empty()) return config;
  std::ranges::sort(problems, [](const Problem& a, const Problem& b) {
    return std::tie(a.line, a.pointer, a.text) < std::tie(b.line, b.pointer, b.text);
  });
  return std::unexpected(std::move(problems));
}

std::expected<PoolConfig, Problems> load_pool(const std::string& path) {
  const auto unreadable = [](int error) {
    return std::unexpected(Problems{{.text = std::string("cannot be read: ") + std::strerror(error)}});
  };
  const shm::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return unreadable(errno);
  std::string text(kMaxPoolFileBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return unreadable(errno);
    if (got == 0) break;
    size += size_t(got);
  }
  text.resize(size);
  return parse_pool(text);
}

std::string problem_text(std::string_view file, const Problem& problem) {
  std::string text(file);
  if (problem.line > 0) text += ":" + std::to_string(problem.line);
  if (problem.column > 0) text += ":" + std::to_string(problem.column);
  text += ": ";
  if (!problem.pointer.empty()) text += problem.pointer + " ";
  return text + problem.text;
}

std::string dump_pool(const PoolConfig& config) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const Key& key : pool_keys()) {
    const std::string pointer(key.pointer);
    const size_t star = pointer.find('*');
    if (key.type == KeyType::object) {
      json[nlohmann::ordered_json::json_pointer(pointer)] = nlohmann::ordered_json::object();
    } else if (key.slot != nullptr && star == std::string::npos) {
      json[nlohmann::ordered_json::json_pointer(pointer)] =
          nlohmann::ordered_json::parse(value_text(key, config));
    } else if (key.slot != nullptr) {
      for (size_t i = 0; i < config.listeners.size(); ++i) {
        const std::string one = pointer.substr(0, star) + std::to_string(i) + pointer.substr(star + 1);
        json[nlohmann::ordered_json::json_pointer(one)] =
            nlohmann::ordered_json::parse(value_text(key, config, i));
      }
    }
  }
  return json.dump(2) + "\n";
}

}  // namespace smbdirect::daemon
