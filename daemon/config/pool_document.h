// SPDX-License-Identifier: MIT
// A pool file's text as a tree that keeps line numbers, so that every error can name its line. JSON with
// comments; duplicate keys are reported here, because later stages cannot see them. Pure: bytes in, tree or
// problems out, nothing thrown.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace smbdirect::daemon {

/// One thing that is wrong, and where.
struct Problem {
  std::string pointer{};  // JSON pointer; empty when the text is not JSON, or for the whole document
  uint32_t line = 0;      // from 1
  uint32_t column = 0;    // from 1; 0: not known
  std::string text{};     // "is 0; allowed: an integer from 1 to 64"
};
using Problems = std::vector<Problem>;

struct Node {
  enum class Kind : uint8_t { null, boolean, natural, negative, real, string, array, object };
  Kind kind = Kind::null;
  std::string name;        // of an object's member
  uint32_t name_line = 0;  // where that stands
  uint32_t line = 0;       // where the value ends; of objects and arrays, where it begins
  bool boolean = false;
  uint64_t natural = 0;
  std::string text;           // string: its value; numbers: as written
  std::vector<Node> members;  // of an object or an array

  /// The value in JSON, shortened, fit for a message.
  [[nodiscard]] std::string shown() const;
};

inline constexpr size_t kMaxPoolFileBytes = 1 << 20;

/// A well-formed text and its duplicate keys (all occurrences stay in the tree). The error is a syntax
/// error, one: nothing after it can be trusted.
struct Document {
  Node root;
  Problems duplicates;
};
[[nodiscard]] std::expected<Document, Problem> read_document(std::string_view text);

/// "/a~1b/0": appends one reference token, escaped by RFC 6901 and free of control characters.
[[nodiscard]] std::string pointer_to(std::string_view parent, std::string_view name);

}  // namespace smbdirect::daemon
