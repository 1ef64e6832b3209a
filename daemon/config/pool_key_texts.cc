// SPDX-License-Identifier: MIT
// Texts about a key: what it may be, what it is, when a change of it applies.
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <nlohmann/json.hpp>

#include "daemon/config/pool_keys.h"

namespace smbdirect::daemon {
namespace {

using std::string_view;

/// "a", "a or b", "a, b or c".
std::string or_list(std::span<const string_view> words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += '"' + std::string(words[i]) + '"';
  }
  return text;
}

struct ToJson {
  const Key& key;
  nlohmann::ordered_json operator()(std::monostate) const { return nullptr; }
  nlohmann::ordered_json operator()(const std::vector<Cidr>* networks) const {
    auto array = nlohmann::ordered_json::array();
    for (const Cidr& network : *networks) array.push_back(network.text());
    return array;
  }
  template <class T>
  nlohmann::ordered_json operator()(const T* value) const {
    if constexpr (std::is_enum_v<T>) {
      return key.choices[size_t(*value)];
    } else {
      return *value;
    }
  }
};

}  // namespace

string_view Key::name() const { return pointer.substr(pointer.rfind('/') + 1); }
string_view Key::parent() const { return pointer.substr(0, pointer.rfind('/')); }

string_view applies_text(Applies applies) {
  switch (applies) {
    case Applies::now:
      return "at once";
    case Applies::to_workers:
      return "to new connections, in new workers";
    case Applies::at_restart:
      return "when the daemon is restarted";
  }
  return {};
}

std::string allowed_text(const Key& key) {
  switch (key.type) {
    case KeyType::object:
      return "an object";
    case KeyType::objects:
      return "an array of at least one object";
    case KeyType::integer:
      return "an integer from " + std::to_string(key.min) + " to " + std::to_string(key.max) +
             (key.automatic ? " or \"auto\"" : "");
    case KeyType::boolean:
      return "true or false";
    case KeyType::text:
      return "a string";
    case KeyType::choice:
      return or_list(key.choices);
    case KeyType::address:
      return "a numeric IPv4 or IPv6 address, such as \"192.0.2.1\" or \"2001:db8::1\"";
    case KeyType::networks:
      return "an array of networks, such as [\"10.0.0.0/8\", \"2001:db8::/32\"]";
    case KeyType::processors:
      return "\"none\", \"auto\" or a list of processors, such as \"0-3,8\"";
  }
  return {};
}

std::string value_text(const Key& key, const PoolConfig& config, size_t index) {
  if (key.slot == nullptr) return {};
  // The slot is only read here; the table has no second set of accessors for constant configurations.
  const Slot slot = key.slot(const_cast<PoolConfig&>(config), index);
  const auto json = std::visit([&](auto value) { return ToJson{key}(value); }, slot);
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string default_text(const Key& key) {
  if (key.required || key.slot == nullptr) return {};
  PoolConfig config;
  config.listeners.emplace_back();
  return value_text(key, config);
}

}  // namespace smbdirect::daemon
