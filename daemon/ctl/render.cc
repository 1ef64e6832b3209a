// SPDX-License-Identifier: MIT
#include "daemon/ctl/render.h"

#include <algorithm>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "shm/base/printable.h"

namespace smbdirect::daemon {
namespace {

using json = nlohmann::ordered_json;  // members stay in the order they are told in

/// What a process of the pool may have written, for an administrator's terminal.
std::string cell(const json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return shm::printable(value.get<std::string>());
  if (!value.is_array()) return value.dump(-1, ' ', true, json::error_handler_t::replace);
  std::string text;
  for (const json& item : value) text += (text.empty() ? "" : ",") + cell(item);
  return text.empty() ? "-" : text;
}

std::string padded(const std::string& text, size_t width, bool last) {
  return last ? text + "\n" : text + std::string(width - text.size() + 2, ' ');
}

std::string names_and_values(const json& object) {
  size_t width = 0;
  for (const auto& [name, value] : object.items()) width = std::max(width, name.size());
  std::string text;
  for (const auto& [name, value] : object.items())
    text += padded(shm::printable(name), width, false) + cell(value) + "\n";
  return text;
}

/// The words, with what stands in braces replaced by the object's members of these names.
std::string sentence(std::string_view words, const json& object) {
  std::string text;
  for (size_t open = words.find('{'); open != std::string_view::npos; open = words.find('{')) {
    const size_t close = std::min(words.find('}', open), words.size() - 1);
    text += words.substr(0, open);
    text += cell(object.value(std::string(words.substr(open + 1, close - open - 1)), json()));
    words.remove_prefix(close + 1);
  }
  return text + std::string(words) + "\n";
}

/// "    120 ms ago received bytes=96 send_credits=31", one line each.
std::string events_text(const json& events) {
  std::string text;
  for (const json& event : events) {
    if (!event.is_object()) continue;
    text += "    " + cell(event.value("ago_ms", json())) + " ms ago " + cell(event.value("event", json()));
    for (const auto& [name, value] : event.items()) {
      if (name != "ago_ms" && name != "event") text += " " + shm::printable(name) + "=" + cell(value);
    }
    text += "\n";
  }
  return text;
}

/// "AREA no-share: the share of ...", each once.
std::string reasons(const json& rows, std::span<const CtlColumn> columns) {
  std::vector<std::string> told;
  for (const CtlColumn& column : columns) {
    if (column.reason.empty()) continue;
    for (const json& row : rows) {
      const json reason = row.value(std::string(column.reason), json());
      if (!reason.is_string()) continue;
      const std::string value = cell(row.value(std::string(column.member), json()));
      std::string line = std::string(column.title) + " " + value + ": " + cell(reason) + "\n";
      if (std::ranges::find(told, line) == told.end()) told.push_back(std::move(line));
    }
  }
  std::string text;
  for (const std::string& line : told) text += (text.empty() ? "\n" : "") + line;
  return text;
}

std::string lines(const json& rows, std::span<const CtlColumn> columns) {
  std::vector<std::vector<std::string>> cells;
  std::vector<size_t> widths;
  for (const CtlColumn& column : columns) widths.push_back(column.title.size());
  for (const json& row : rows) {
    std::vector<std::string>& line = cells.emplace_back();
    for (const CtlColumn& column : columns) {
      line.push_back(cell(row.value(std::string(column.member), json())));
      widths[line.size() - 1] = std::max(widths[line.size() - 1], line.back().size());
    }
  }
  std::string text;
  for (size_t i = 0; i < columns.size(); ++i) {
    text += padded(std::string(columns[i].title), widths[i], i + 1 == columns.size());
  }
  for (size_t row = 0; row < cells.size(); ++row) {
    for (size_t i = 0; i < columns.size(); ++i)
      text += padded(cells[row][i], widths[i], i + 1 == columns.size());
    if (rows[row].contains("events")) text += events_text(rows[row]["events"]);
  }
  return text + reasons(rows, columns);
}

/// What went wrong, and below it the problems of the pool file, if that is what did.
std::string error_text(const json& answer) {
  std::string text = cell(answer["error"]);
  if (!answer.contains("problems") || !answer["problems"].is_array()) return text;
  for (const json& problem : answer["problems"]) text += "\n  " + cell(problem);
  return text;
}

}  // namespace

std::expected<std::string, std::string> render(const CtlRequest& request, std::string_view answer,
                                               bool as_json) {
  const json parsed = json::parse(answer, nullptr, false);
  if (!parsed.is_object()) return std::unexpected("the daemon's answer is not JSON");
  if (parsed.contains("error")) return std::unexpected(error_text(parsed));
  const CtlRow& row = ctl_table()[size_t(request.command)];
  const std::string member(row.name);
  if (as_json) return parsed.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
  if (!parsed.contains(member)) return std::unexpected("the daemon's answer has no \"" + member + "\"");
  const json& told = parsed[member];
  if (!row.sentence.empty() && told.is_object()) return sentence(row.sentence, told);
  if (row.columns.empty() && told.is_object()) return names_and_values(told);
  if (!told.is_array() || !std::ranges::all_of(told, [](const json& item) { return item.is_object(); })) {
    return std::unexpected("the daemon's answer has an unknown structure; is the daemon of another release?");
  }
  if (told.empty() && !row.nothing.empty()) return std::string(row.nothing) + "\n";
  return lines(told, row.columns);
}

}  // namespace smbdirect::daemon
