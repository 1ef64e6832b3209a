// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/examination.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "shm/base/printable.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr size_t kNameColumn = 9;
constexpr size_t kTextColumn = 24;
constexpr size_t kWidth = 110;

constexpr std::array<std::string_view, 4> kStates{"ok", "warning", "failed", "skipped"};
std::string_view state_name(State state) { return kStates[size_t(state)]; }

/// Why a check cannot be made; empty: it can.
std::string lacks(const Patient& patient, Needs needs) {
  if (needs == Needs::nothing) return "";
  if (!patient.pool) return "it needs the pool file";
  switch (needs) {
    case Needs::nothing:
    case Needs::pool:
      break;
    case Needs::verbs:
      if (!patient.has_verbs()) return "no listener is on an RDMA device (\"fabric\": \"verbs\")";
      break;
    case Needs::daemon:
      if (!patient.daemon) return "it needs the running daemon";
      break;
    case Needs::smbd:
    case Needs::smb_conf:
      if (!patient.serves_smbd()) return "mode \"channel\" has no smbd";
      if (needs == Needs::smb_conf && !patient.smbd_elsewhere.empty()) return "smbd is on another host";
      if (needs == Needs::smb_conf && !patient.smb_conf) return "smb.conf cannot be read";
      break;
  }
  return "";
}

/// Words in lines of kWidth, indented but for the first. What has lines of its own keeps them from the second
/// on: they are to be copied.
void append_wrapped(std::string& out, std::string_view text, size_t at, size_t indent) {
  bool first = true;
  for (const std::string& line : words_of(text, "\n")) {
    if (!first) {
      out += "\n" + std::string(indent, ' ');
      at = indent;
    }
    if (!first) {
      out += line;
      continue;
    }
    bool begins = true;
    for (const std::string& word : words_of(line, " ")) {
      if (!begins && at + 1 + word.size() > kWidth) {
        out += "\n" + std::string(indent, ' ');
        at = indent;
        begins = true;
      }
      out += (begins ? "" : " ") + word;
      at += word.size() + (begins ? 0 : 1);
      begins = false;
    }
    first = false;
  }
  out += "\n";
}

/// Line by line, for make_printable takes an end of line for an attack.
std::string safe(std::string_view text) {
  std::string out;
  for (const std::string& line : words_of(text, "\n"))
    out += (out.empty() ? "" : "\n") + shm::printable(line);
  return out;
}

void append(std::string& out, const Told& told) {
  std::string line(told.finding.state == State::failed ? "FAILED" : state_name(told.finding.state));
  line.resize(std::max(line.size() + 1, kNameColumn), ' ');
  line += told.name;
  line.resize(std::max(line.size() + 1, kTextColumn), ' ');
  out += line;
  append_wrapped(out, safe(told.finding.what), line.size(), kTextColumn);
  if (told.finding.fix.empty()) return;
  std::string fix(kNameColumn, ' ');
  fix += "to do:";
  fix.resize(kTextColumn, ' ');
  out += fix;
  append_wrapped(out, safe(told.finding.fix), fix.size(), kTextColumn);
}

std::string number_of(size_t count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

}  // namespace

Examination examine(const Patient& patient) {
  Examination examination;
  for (const CheckRow& row : check_table()) {
    const std::string lacking = lacks(patient, row.needs);
    Findings findings = lacking.empty() ? row.check(patient) : Findings{skipped(lacking)};
    for (Finding& finding : findings)
      examination.push_back(
          {.name = row.name, .told_when_ok = row.told_when_ok, .finding = std::move(finding)});
  }
  return examination;
}

size_t count(const Examination& examination, State state) {
  return size_t(
      std::ranges::count_if(examination, [&](const Told& told) { return told.finding.state == state; }));
}

std::string examination_text(const Examination& examination, bool all) {
  std::string out;
  for (const Told& told : examination) {
    const State state = told.finding.state;
    const bool ailment = state == State::failed || state == State::warning;
    if (all || ailment || (state == State::ok && told.told_when_ok)) append(out, told);
  }
  const size_t failures = count(examination, State::failed);
  const size_t warnings = count(examination, State::warning);
  const size_t skips = count(examination, State::skipped);
  out += failures == 0 ? "healthy: " : "not healthy: " + std::to_string(failures) + " failed, ";
  out += number_of(count(examination, State::ok), "check", "checks") + " passed, " +
         number_of(warnings, "warning", "warnings") + ", " + std::to_string(skips) + " skipped";
  return out + (all || skips == 0 ? "\n" : " (--all shows them)\n");
}

std::string examination_json(const Examination& examination) {
  auto list = nlohmann::ordered_json::array();
  for (const Told& told : examination) {
    list.push_back({{"name", told.name},
                    {"state", state_name(told.finding.state)},
                    {"what", told.finding.what},
                    {"fix", told.finding.fix}});
  }
  const nlohmann::ordered_json out{{"doctor", std::move(list)}};
  return out.dump(2, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace smbdirect::daemon::doctor
