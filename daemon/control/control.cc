// SPDX-License-Identifier: MIT
#include "daemon/control/control.h"

#include <sys/mman.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "daemon/control/event_report.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;
using json = nlohmann::ordered_json;  // members stay in the order they are told in

std::string error_text(const std::string& why) { return json{{"error", why}}.dump(); }

}  // namespace

Control::Control(Loop& loop, const PoolView::Parts& parts,
                 const std::vector<std::unique_ptr<WorkerSlot>>& workers)
    : loop_(loop), workers_(workers), boards_(workers.size()), view_(loop, parts, boards_) {}

shm::Result<> Control::open(const std::string& run_directory, ControlSocket::Keep keep) {
  auto opened = ControlSocket::open(
      loop_, run_directory + "/" + std::string(kControlSocket),
      [this](const std::string& line, const ControlSocket::Answer& answer) { ask(line, answer); },
      std::move(keep));
  if (!opened) return std::unexpected(opened.error());
  socket_ = std::move(*opened);
  return {};
}

void Control::close() {
  socket_.reset();
  rounds_.clear();
}

void Control::board(size_t slot, shm::UniqueFd fd) {
  if (!fd.valid()) return;  // no descriptor left here: it goes on unseen
  const auto set = boards_.set(slot, workers_[slot]->generation(), std::move(fd));
  if (set) return;
  log_.write(log::Level::warning, "board " + std::to_string(slot), loop_.now(), "worker %zu: %s", slot,
             set.error().text().c_str());
}

void Control::ask(const std::string& line, const ControlSocket::Answer& answer) {
  const auto request = parse_request(line);
  if (!request) return answer(error_text(request.error()));
  if (request->events) return ask_workers(answer);
  answer(view_.answer(request->command).dump());
}

void Control::ask_workers(const ControlSocket::Answer& answer) {
  const uint64_t sequence = next_++;
  Round& round = rounds_[sequence];
  round.answer = answer;
  for (size_t slot = 0; slot < workers_.size(); ++slot) {
    if (workers_[slot]->state() != WorkerState::ready && workers_[slot]->state() != WorkerState::draining)
      continue;
    shm::UniqueFd paper(memfd_create("smbdirect-report", MFD_CLOEXEC));
    if (!paper.valid()) continue;
    const auto sent = workers_[slot]->send({.type = MessageType::report, .sequence = sequence}, paper.get());
    if (sent) round.asked[slot] = std::move(paper);
  }
  round.deadline = std::make_unique<Timer>(loop_, [this, sequence] { finish(sequence); });
  round.deadline->start(round.asked.empty() ? 0 : kReportDeadlineMs);
}

void Control::reported(size_t slot, uint64_t sequence) {
  const auto found = rounds_.find(sequence);
  if (found == rounds_.end()) return;
  auto& [number, round] = *found;
  const auto paper = round.asked.find(slot);
  if (paper == round.asked.end()) return;
  round.written[slot] = std::move(paper->second);
  round.asked.erase(paper);
  if (round.asked.empty()) finish(sequence);
}

void Control::worker_gone(size_t slot) {
  boards_.drop(slot);
  for (auto& [sequence, round] : rounds_) {
    if (round.asked.erase(slot) != 0 && round.asked.empty()) round.deadline->start(0);
  }
}

void Control::finish(uint64_t sequence) {
  const Round round = std::move(rounds_.at(sequence));
  rounds_.erase(sequence);
  json out = view_.answer(CtlCommand::connections);
  for (const auto& [slot, paper] : round.written) {
    const json report = read_event_report(paper.get());
    if (report.is_discarded()) {
      log_.write(log::Level::warning, "report " + std::to_string(slot), loop_.now(),
                 "worker %zu: what it wrote of its connections' events is no report", slot);
    }
    add_events(out["connections"], slot, report);
  }
  round.answer(out.dump());
}

}  // namespace smbdirect::daemon
