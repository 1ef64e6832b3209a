// SPDX-License-Identifier: MIT
// The pool file's vocabulary: one table of every key with its type, range and meaning. Parsing, error
// texts, --dump-config, the JSON schema and the manual page's list all come from it; the default of a key
// is what its member of PoolConfig holds before a file is read. Constant data, any process.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "daemon/config/pool_config.h"

namespace smbdirect::daemon {

enum class KeyType : uint8_t {
  object,   // has keys of its own
  objects,  // an array of at least one object; their keys stand under POINTER/*
  integer,  // min..max
  boolean,
  text,
  choice,      // one of `choices`
  address,     // a numeric IP address
  networks,    // an array of CIDR networks
  processors,  // "none", "auto" or a list such as "0-3,8"
};

/// Where a key's value lives.
using Slot = std::variant<std::monostate, bool*, uint16_t*, uint32_t*, uint64_t*, std::string*,
                          std::vector<Cidr>*, Affinity*, UpstreamMode*, Fabric*, shm::log::Level*>;

/// What a reload does with a key that has changed.
enum class Applies : uint8_t {
  now,         // to the running pool
  to_workers,  // workers that have it take over; the others finish their connections and end
  at_restart,  // not before the daemon starts again
};

struct Key {
  std::string_view pointer;  // JSON pointer; "*" stands for any element of an array
  KeyType type{};
  std::string_view help;
  bool required = false;
  uint64_t min = 0;
  uint64_t max = 0;
  bool automatic = false;  // "auto" is allowed instead: as many as this machine has processors for us
  std::span<const std::string_view> choices{};               // in the order of the enum's values
  Slot (*slot)(PoolConfig& config, size_t index) = nullptr;  // index: of the array's element
  Applies applies = Applies::at_restart;                     // not of objects

  /// "connections" of "/limits/connections".
  [[nodiscard]] std::string_view name() const;
  /// "/limits" of "/limits/connections".
  [[nodiscard]] std::string_view parent() const;
};

/// In the order of the documentation; an object stands before its keys.
[[nodiscard]] std::span<const Key> pool_keys();

/// "at once", ...: completes "A change applies ".
[[nodiscard]] std::string_view applies_text(Applies applies);

/// "an integer from 1 to 64", "\"client\" or \"spread\"": completes "allowed: ".
[[nodiscard]] std::string allowed_text(const Key& key);

/// The value as JSON text. index as for Key::slot.
[[nodiscard]] std::string value_text(const Key& key, const PoolConfig& config, size_t index = 0);

/// The default as JSON text; empty for required keys and objects.
[[nodiscard]] std::string default_text(const Key& key);

}  // namespace smbdirect::daemon
