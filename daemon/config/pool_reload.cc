// SPDX-License-Identifier: MIT
#include "daemon/config/pool_reload.h"

#include <type_traits>
#include <utility>
#include <variant>

#include "daemon/config/pool_file.h"

namespace smbdirect::daemon {
namespace {

bool is_of_listener(const Key& key) { return key.pointer.starts_with("/listeners/*/"); }

/// As the manual writes an array of objects.
std::string listeners_text(const PoolConfig& config) {
  std::string text = "[";
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    text += i == 0 ? "{" : ", {";
    const char* separator = "";
    for (const Key& key : pool_keys()) {
      if (!is_of_listener(key)) continue;
      text += std::exchange(separator, ", ");
      text += '"' + std::string(key.name()) + "\": " + value_text(key, config, i);
    }
    text += "}";
  }
  return text + "]";
}

void copy_value(const Key& key, PoolConfig& from, PoolConfig& to) {
  std::visit(
      [&](auto source) {
        if constexpr (std::is_pointer_v<decltype(source)>)
          *std::get<decltype(source)>(key.slot(to, 0)) = *source;
      },
      key.slot(from, 0));
}

}  // namespace

std::vector<Change> changes_between(const PoolConfig& running, const PoolConfig& wanted) {
  std::vector<Change> changes;
  for (const Key& key : pool_keys()) {
    if (is_of_listener(key)) continue;
    const bool listeners = key.type == KeyType::objects;
    if (key.slot == nullptr && !listeners) continue;
    std::string from = listeners ? listeners_text(running) : value_text(key, running);
    std::string to = listeners ? listeners_text(wanted) : value_text(key, wanted);
    if (from == to) continue;
    changes.push_back({std::string(key.pointer), std::move(from), std::move(to), key.applies});
  }
  return changes;
}

std::expected<PoolConfig, Problems> after_reload(const PoolConfig& running, PoolConfig wanted) {
  PoolConfig before = running;
  for (const Key& key : pool_keys()) {
    if (key.slot != nullptr && !is_of_listener(key) && key.applies == Applies::at_restart)
      copy_value(key, before, wanted);
  }
  wanted.listeners = before.listeners;
  return parse_pool(dump_pool(wanted));  // what follows from several keys follows from these
}

}  // namespace smbdirect::daemon
