// SPDX-License-Identifier: MIT
#include "daemon/config/pool_document.h"

#include <algorithm>
#include <iterator>

#include <nlohmann/json.hpp>

namespace smbdirect::daemon {
namespace {

using Json = nlohmann::json;

uint32_t line_at(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, offset);
  return 1 + uint32_t(std::ranges::count(before, '\n'));
}
uint32_t column_at(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, offset);
  return 1 + uint32_t(before.size() - (before.rfind('\n') + 1));  // npos + 1 is 0
}

/// Feeds the lexer, and tells how far it has read: it copies its iterator, so the count lives outside. Lines
/// are counted as they pass, so that a file of many values is not counted from its start for each.
class Reader {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  struct Progress {
    std::string_view text;
    size_t at = 0;
    uint32_t line = 1;
  };
  explicit Reader(Progress* progress) : progress_(progress) {}
  reference operator*() const { return progress_->text[progress_->at]; }
  Reader& operator++() {
    if (progress_->text[progress_->at] == '\n') ++progress_->line;
    ++progress_->at;
    return *this;
  }
  Reader operator++(int) {
    const Reader before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Reader& other) const { return at_end() == other.at_end(); }
  bool operator!=(const Reader& other) const { return !(*this == other); }

 private:
  [[nodiscard]] bool at_end() const {
    return progress_ == nullptr || progress_->at >= progress_->text.size();
  }
  Progress* progress_;  // null: the end
};

/// Builds the tree from the parser's events; returning false ends the parse.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const Reader::Progress& progress) : progress_(progress) {}

  bool null() override {
    add(Node::Kind::null);
    return true;
  }
  bool boolean(bool value) override {
    add(Node::Kind::boolean).boolean = value;
    return true;
  }
  bool number_integer(number_integer_t value) override {
    return number(Node::Kind::negative, std::to_string(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return number(Node::Kind::natural, std::to_string(value), value);
  }
  bool number_float(number_float_t, const string_t& text) override { return number(Node::Kind::real, text); }
  bool string(string_t& value) override {
    add(Node::Kind::string).text = std::move(value);
    return true;
  }
  bool binary(binary_t&) override { return false; }  // not in text
  bool start_object(size_t) override { return open(Node::Kind::object); }
  bool start_array(size_t) override { return open(Node::Kind::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto& members = open_.back()->members;
    if (members.size() >= kMaxMembers) return false;
    const auto first = std::ranges::find(members, name, &Node::name);
    if (first != members.end()) {
      duplicates_.push_back(
          {.pointer = pointer_to(pointer(), name),
           .line = progress_.line,
           .text = "is a duplicate key; the first is on line " + std::to_string(first->name_line)});
    }
    name_ = std::move(name);
    name_line_ = progress_.line;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ...": the
    // place is told once, by us.
    std::string_view text = error.what();
    for (const std::string_view cut : {"] ", "column "}) {
      if (const size_t found = text.find(cut); found != std::string_view::npos)
        text.remove_prefix(found + cut.size());
    }
    if (const size_t colon = text.find(": "); colon < 12) text.remove_prefix(colon + 2);
    const size_t last_read = position == 0 ? 0 : position - 1;
    syntax_error_ = {.pointer = {},
                     .line = line_at(progress_.text, last_read),
                     .column = column_at(progress_.text, last_read),
                     .text = std::string(text)};
    return false;
  }

  std::expected<Document, Problem> finish(bool parsed) {
    if (parsed) return Document{std::move(root_), std::move(duplicates_)};
    if (!syntax_error_.text.empty()) return std::unexpected(std::move(syntax_error_));
    return std::unexpected(Problem{.pointer = {},
                                   .line = progress_.line,
                                   .text = "has more than " + std::to_string(kMaxDepth) +
                                           " levels or an object of more than " +
                                           std::to_string(kMaxMembers) + " keys"});
  }

 private:
  static constexpr size_t kMaxDepth = 16;      // the pool file needs 3; the tree's destructor recurses
  static constexpr size_t kMaxMembers = 4096;  // each key is compared with those before it

  Node& add(Node::Kind kind) {
    Node& node = open_.empty() ? root_ : open_.back()->members.emplace_back();
    node.kind = kind;
    node.name = std::exchange(name_, {});
    node.name_line = std::exchange(name_line_, 0);
    node.line = progress_.line;
    return node;
  }
  bool number(Node::Kind kind, std::string text, uint64_t natural = 0) {
    Node& node = add(kind);
    node.text = std::move(text);
    node.natural = natural;
    // The end of a number is known only by the character after it.
    const bool past = progress_.at > 0 && progress_.at <= progress_.text.size();
    if (past && progress_.text[progress_.at - 1] == '\n') --node.line;
    return true;
  }
  bool open(Node::Kind kind) {
    if (open_.size() >= kMaxDepth) return false;
    open_.push_back(&add(kind));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  [[nodiscard]] std::string pointer() const {
    std::string text;
    for (size_t i = 0; i + 1 < open_.size(); ++i) {
      const auto& members = open_[i]->members;
      const bool array = open_[i]->kind == Node::Kind::array;
      text = pointer_to(text, array ? std::to_string(members.size() - 1) : members.back().name);
    }
    return text;
  }

  const Reader::Progress& progress_;
  Node root_;
  std::vector<Node*> open_;  // stable: a node's members grow only while it is the innermost open one
  std::string name_;
  uint32_t name_line_ = 0;
  Problems duplicates_;
  Problem syntax_error_;
};

/// Whether there is nothing but blanks and comments.
bool is_empty(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    const std::string_view end = text.starts_with("//") ? "\n" : "*/";
    if (!text.starts_with("//") && !text.starts_with("/*")) return text.empty();
    const size_t found = text.find(end, 2);
    if (found == std::string_view::npos) return end == "\n";
    text.remove_prefix(found + end.size());
  }
}

}  // namespace

std::expected<Document, Problem> read_document(std::string_view text) {
  if (text.size() > kMaxPoolFileBytes) {
    return std::unexpected(Problem{.text = "is larger than " + std::to_string(kMaxPoolFileBytes) + " bytes"});
  }
  // The library's text for this differs between its versions.
  if (is_empty(text)) {
    return std::unexpected(
        Problem{.line = line_at(text, text.size()), .text = "is empty; allowed: an object"});
  }
  Reader::Progress progress{text};
  Builder builder(progress);
  const bool parsed =
      Json::sax_parse(Reader(&progress), Reader(nullptr), &builder, Json::input_format_t::json,
                      /*strict=*/true, /*ignore_comments=*/true);
  return builder.finish(parsed);
}

std::string pointer_to(std::string_view parent, std::string_view name) {
  std::string text(parent);
  text += '/';
  for (const char c : name) {
    if (c == '~') {
      text += "~0";
    } else if (c == '/') {
      text += "~1";
    } else {
      text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
  }
  return text;
}

std::string Node::shown() const {
  constexpr size_t kLongest = 64;
  std::string out;
  switch (kind) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return boolean ? "true" : "false";
    case Kind::natural:
    case Kind::negative:
    case Kind::real:
      out = text;
      break;
    case Kind::string:
      out = Json(text).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
      break;
    case Kind::array:
      return members.empty() ? "[]" : "[...]";
    case Kind::object:
      return members.empty() ? "{}" : "{...}";
  }
  if (out.size() > kLongest) out = out.substr(0, kLongest) + "...";
  return out;
}

}  // namespace smbdirect::daemon
