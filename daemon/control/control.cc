// SPDX-License-Identifier: MIT
#include "daemon/control/control.h"

#include <optional>
#include <string_view>
#include <sys/mman.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "daemon/control/event_report.h"
#include "shm/base/log.h"
#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;
using json = nlohmann::ordered_json;  // members stay in the order they are told in

std::string error_text(const std::string& why) {
  return json{{"error", why}}.dump(-1, ' ', false, json::error_handler_t::replace);
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
      workers_(workers),
      scoreboards_(shm::kWorkerSlots),
      view_(loop, parts, scoreboards_),
      actions_(std::move(actions)) {}

shm::Result<> Control::open(const std::string& run_directory, ControlSocket::Keep keep) {
  auto opened = ControlSocket::open(loop_, control_path(run_directory), asks(), std::move(keep));
  if (!opened) return std::unexpected(opened.error());
  socket_ = std::move(*opened);
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
  if (socket_) socket_->start();
}

shm::UniqueFd Control::copy() const { return socket_ ? socket_->copy() : shm::UniqueFd{}; }

void Control::let_go() {
  if (socket_) socket_->let_go();
}

ControlSocket::Ask Control::asks() {
  return [this](const std::string& line, const ControlSocket::Answer& answer) { ask(line, answer); };
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

void Control::ask(const std::string& line, const ControlSocket::Answer& answer) {
  const auto request = parse_request(line);
  if (!request) return answer(error_text(request.error()));
  if (request->events) return ask_workers(answer);
  if (request->command == CtlCommand::upgrade) return upgrade(answer);
  if (request->command >= CtlCommand::resize) return answer(act(*request));
  answer(view_.answer(request->command).dump());
}

void Control::upgrade(const ControlSocket::Answer& answer) {
  actions_.upgrade([answer](const std::expected<Upgraded, Refused>& done) {
    const json out = done ? json{{"upgrade",
                                  {{"pid", done->pid},
                                   {"version", done->release},
                                   {"former_pid", done->former_pid},
                                   {"draining_connections", done->connections}}}}
                          : refusal_json(done.error());
    answer(out.dump(-1, ' ', false, json::error_handler_t::replace));
  });
}

std::string Control::act(const CtlRequest& request) {
  const auto name = std::string(ctl_table()[size_t(request.command)].name);
  const auto told = [&](const auto& done, const auto& as_json) {
    const json out = done ? json{{name, as_json(*done)}} : refusal_json(done.error());
    return out.dump(-1, ' ', false, json::error_handler_t::replace);
  };
  std::optional<uint32_t> number;
  if (request.argument && ctl_table()[size_t(request.command)].number) {
    number = shm::number_from_text<uint32_t>(*request.argument);
    if (!number) return error_text("\"" + *request.argument + "\" is no number");
  }
  switch (request.command) {
    case CtlCommand::resize:
      return told(actions_.resize(*number), [](const Resized& done) {
        return json{{"workers", done.workers}, {"before", done.before}, {"draining", done.draining}};
      });
    case CtlCommand::reload:
      return told(actions_.reload(), changes_json);
    case CtlCommand::drain:
    case CtlCommand::undrain:
      return told(actions_.hold(number, request.command == CtlCommand::drain), [](const Held& done) {
        return json{{"drained_workers", done.workers}, {"connections", done.connections}};
      });
    case CtlCommand::kick:
      return told(actions_.kick(*request.argument),
                  [](const Kicked& done) { return json{{"connections", done.connections}}; });
    case CtlCommand::log_level:
      return told(actions_.log_level(*request.argument),
                  [](log::Level level) { return json{{"level", log::level_name(level)}}; });
    default:
      return error_text("the command " + name + " does nothing");
  }
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

void Control::worker_gone(size_t slot) {
  scoreboards_.drop(slot);
  for (auto& [sequence, round] : rounds_) {
    if (round.asked.erase(slot) != 0 && round.asked.empty()) round.deadline->start(0);
  }
}

void Control::finish(uint64_t sequence) {
  const Round round = std::move(rounds_.at(sequence));
  rounds_.erase(sequence);
  json out = view_.answer(CtlCommand::connections);
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
  round.answer(out.dump());
}

}  // namespace smbdirect::daemon
