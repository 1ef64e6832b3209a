// SPDX-License-Identifier: MIT
#include "daemon/control/control.h"

#include <optional>
#include <string_view>
#include <sys/mman.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "daemon/control/event_report.h"
#include "daemon/os/account.h"
#include "shm/base/log.h"
#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;
using json = nlohmann::ordered_json;  // members stay in the order they are told in

std::string json_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string answer_text(const CtlRow& row, const json& value) {
  return json_text(json{{std::string(row.name), value}});
}

std::string error_text(const std::string& why) { return json_text(json{{"error", why}}); }

/// What a member of /control/group hears, who may only ask.
std::string not_allowed(const CtlRow& row) {
  std::string questions;
  for (const CtlRow& other : ctl_table()) {
    if (!other.changes) questions += (questions.empty() ? "" : ", ") + std::string(other.name);
  }
  return std::string(row.name) +
         " changes the pool, which only root and the daemon's own user may do (try sudo); members of "
         "/control/group may ask for: " +
         questions;
}

json refusal_json(const Refused& refused) {
  json out{{"error", refused.why}};
  if (!refused.problems.empty()) out["problems"] = refused.problems;
  return out;
}

json changes_json(const Reloaded& reloaded) {
  json changes = json::array();
  for (const Change& change : reloaded.changes) {
    changes.push_back({{"key", change.pointer},
                       {"from", change.from},
                       {"to", change.to},
                       {"applies", applies_text(change.applies)}});
  }
  return changes;
}

}  // namespace

Control::Control(shm::Loop& loop, const PoolReport::Parts& parts, WorkerPool& workers, Actions actions)
    : loop_(loop),
      config_(parts.config),
      workers_(workers),
      scoreboards_(shm::kWorkerSlots),
      view_(loop, parts, scoreboards_),
      actions_(std::move(actions)) {}

shm::Result<> Control::open(const std::string& run_directory, ControlSocket::Keep keep) {
  auto opened = ControlSocket::open(loop_, control_path(run_directory), asks(), std::move(keep));
  if (!opened) return std::unexpected(opened.error());
  socket_ = std::move(*opened);
  configuration_changed();
  return {};
}

shm::Result<> Control::inherit(const std::string& run_directory, shm::UniqueFd socket,
                               ControlSocket::Keep keep) {
  auto inherited =
      ControlSocket::inherit(loop_, control_path(run_directory), std::move(socket), asks(), std::move(keep));
  if (!inherited) return std::unexpected(inherited.error());
  socket_ = std::move(*inherited);
  return {};
}

void Control::start() {
  if (!socket_) return;
  configuration_changed();  // the file at the path is ours from here on
  socket_->start();
}

shm::UniqueFd Control::copy() const { return socket_ ? socket_->copy() : shm::UniqueFd{}; }

void Control::let_go() {
  if (socket_) socket_->let_go();
}

ControlSocket::Ask Control::asks() {
  return [this](const std::string& line, Right right, const ControlSocket::Answer& answer) {
    ask(line, right, answer);
  };
}

void Control::configuration_changed() {
  if (!socket_) return;
  const auto group = group_id(config_.control_group);
  if (const auto opened = socket_->let_ask(group); !opened) {
    log::write(log::Level::warning,
               "only root and this daemon's user can use smbdirectctl, not members of group \"%s\" "
               "(/control/group): %s; start the daemon as root, or as a member of that group",
               config_.control_group.c_str(), opened.error().text().c_str());
  }
}

void Control::close() {
  socket_.reset();
  rounds_.clear();
}

void Control::scoreboard(size_t slot, shm::UniqueFd fd) {
  if (!fd.valid()) return;  // no descriptor left here: it goes on unseen
  const auto set = scoreboards_.set(slot, workers_[slot].generation(), std::move(fd));
  if (set) return;
  log_.write(log::Level::warning, "scoreboard " + std::to_string(slot), loop_.now(), "worker %zu: %s", slot,
             set.error().text().c_str());
}

void Control::ask(const std::string& line, Right right, const ControlSocket::Answer& answer) {
  const auto request = parse_request(line);
  if (!request) return answer(error_text(request.error()));
  const CtlRow& row = ctl_table()[size_t(request->command)];
  if (row.changes && right != Right::everything) return answer(error_text(not_allowed(row)));
  if (request->events) return ask_workers(answer);
  if (request->command == CtlCommand::upgrade) return upgrade(answer);
  if (request->command == CtlCommand::leave) return leave(*request->argument, answer);
  answer(told(*request));
}

void Control::upgrade(const ControlSocket::Answer& answer) {
  actions_.upgrade([answer](const std::expected<Upgraded, Refused>& done) {
    const json out = done ? json{{"upgrade",
                                  {{"pid", done->pid},
                                   {"version", done->release},
                                   {"former_pid", done->former_pid},
                                   {"draining_connections", done->connections}}}}
                          : refusal_json(done.error());
    answer(json_text(out));
  });
}

void Control::leave(const std::string& address, const ControlSocket::Answer& answer) {
  actions_.leave(address, [answer](const std::expected<Left, Refused>& done) {
    answer(json_text(done ? json{{"leave", {{"address", done->address}, {"connections", done->connections}}}}
                          : refusal_json(done.error())));
  });
}

std::string Control::told(const CtlRequest& request) {
  const CtlRow& row = ctl_table()[size_t(request.command)];
  const auto seen = [&](const json& view) { return answer_text(row, view); };
  const auto done = [&](const auto& outcome, const auto& as_json) {
    return outcome ? answer_text(row, as_json(*outcome)) : json_text(refusal_json(outcome.error()));
  };
  std::optional<uint32_t> number;
  if (request.argument && row.number) {
    number = shm::number_from_text<uint32_t>(*request.argument);
    if (!number) return error_text("\"" + *request.argument + "\" is no number");
  }
  switch (request.command) {
    case CtlCommand::status:
      return seen(view_.status());
    case CtlCommand::workers:
      return seen(view_.workers());
    case CtlCommand::connections:
      return seen(view_.connections());
    case CtlCommand::clients:
      return seen(view_.clients());
    case CtlCommand::resize:
      return done(actions_.resize(*number), [](const Resized& d) {
        return json{{"workers", d.workers}, {"before", d.before}, {"draining", d.draining}};
      });
    case CtlCommand::reload:
      return done(actions_.reload(), changes_json);
    case CtlCommand::drain:
    case CtlCommand::undrain:
      return done(actions_.hold(number, request.command == CtlCommand::drain), [](const Held& d) {
        return json{{"drained_workers", d.workers}, {"connections", d.connections}};
      });
    case CtlCommand::kick:
      return done(actions_.kick(*request.argument),
                  [](const Kicked& d) { return json{{"connections", d.connections}}; });
    case CtlCommand::log_level:
      return done(actions_.log_level(*request.argument),
                  [](log::Level level) { return json{{"level", log::level_name(level)}}; });
    case CtlCommand::take:
      return done(actions_.take(*request.argument),
                  [](const TakenIn& d) { return json{{"address", d.address}, {"left", d.left}}; });
    case CtlCommand::leave:
    case CtlCommand::upgrade:
      break;  // answered later
  }
  return {};
}

void Control::ask_workers(const ControlSocket::Answer& answer) {
  const uint64_t sequence = next_++;
  Round& round = rounds_[sequence];
  round.answer = answer;
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    if (workers_[slot].state() != WorkerState::ready && workers_[slot].state() != WorkerState::draining)
      continue;
    shm::UniqueFd report_fd(memfd_create("smbdirect-report", MFD_CLOEXEC));
    if (!report_fd.valid()) continue;
    const auto sent = workers_[slot].send(message::Report{{sequence}, {}}, report_fd.get());
    if (sent) round.asked[slot] = std::move(report_fd);
  }
  round.deadline = std::make_unique<shm::Timer>(loop_, [this, sequence] { finish(sequence); });
  round.deadline->start(round.asked.empty() ? 0 : kReportDeadlineMs);
}

void Control::reported(size_t slot, uint64_t sequence) {
  const auto found = rounds_.find(sequence);
  if (found == rounds_.end()) return;
  auto& [number, round] = *found;
  const auto report_fd = round.asked.find(slot);
  if (report_fd == round.asked.end()) return;
  round.written[slot] = std::move(report_fd->second);
  round.asked.erase(report_fd);
  if (round.asked.empty()) finish(sequence);
}

void Control::worker_gone(size_t slot, bool lost) {
  scoreboards_.drop(slot);
  if (lost) view_.worker_lost();
  for (auto& [sequence, round] : rounds_) {
    if (round.asked.erase(slot) != 0 && round.asked.empty()) round.deadline->start(0);
  }
}

void Control::finish(uint64_t sequence) {
  const Round round = std::move(rounds_.at(sequence));
  rounds_.erase(sequence);
  json out{{"connections", view_.connections()}};
  for (const auto& [slot, report_fd] : round.written) {
    const json report = read_event_report(report_fd.get());
    if (report.is_discarded()) {
      log_.write(log::Level::warning, "report " + std::to_string(slot), loop_.now(),
                 "worker %zu: the report of its connections' events cannot be parsed; smbdirectctl shows its "
                 "connections without events",
                 slot);
    }
    add_events(out["connections"], slot, report);
  }
  round.answer(json_text(out));
}

}  // namespace smbdirect::daemon
