// SPDX-License-Identifier: MIT
#include "daemon/takeover/notes.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <sys/socket.h>
#include <utility>

#include <nlohmann/json.hpp>

#include "shm/base/sockets.h"

namespace smbdirect::daemon {
namespace {

using nlohmann::json;

constexpr size_t kMostProblems = 64;
constexpr size_t kLongestText = 512;  // so that all of them fit

std::string cut(const std::string& text) {
  return text.size() <= kLongestText ? text : text.substr(0, kLongestText) + "...";
}

std::string_view fabric_name(Fabric fabric) { return fabric == Fabric::verbs ? "verbs" : "iwarp"; }

json to_json(const ListenerConfig& listener) {
  return {{"address", listener.address}, {"port", listener.port}, {"fabric", fabric_name(listener.fabric)}};
}

ListenerConfig listener_from(const json& from) {
  ListenerConfig listener;
  listener.address = from.at("address").get<std::string>();
  listener.port = from.at("port").get<uint16_t>();
  const auto fabric = from.at("fabric").get<std::string>();
  if (fabric != "iwarp" && fabric != "verbs") throw std::invalid_argument("unknown fabric");
  listener.fabric = fabric == "verbs" ? Fabric::verbs : Fabric::iwarp;
  return listener;
}

// --- each note: its name, its members, its descriptor ---

template <class One>
struct NoteRow;
template <>
struct NoteRow<note::Hello> {
  static constexpr std::string_view kName = "hello";
  static json write(const note::Hello& said) {
    return {{"version", said.version}, {"release", said.release}};
  }
  static note::Hello read(const json& from, shm::UniqueFd) {
    return {from.at("version").get<uint32_t>(), from.at("release").get<std::string>()};
  }
};
template <>
struct NoteRow<note::Listener> {
  static constexpr std::string_view kName = "listener";
  static json write(const note::Listener& said) {
    return {{"listener", to_json(said.listener)}, {"bound_port", said.port}};
  }
  static note::Listener read(const json& from, shm::UniqueFd fd) {
    return {listener_from(from.at("listener")), from.at("bound_port").get<uint16_t>(), std::move(fd)};
  }
  static int descriptor(const note::Listener& said) { return said.socket.get(); }
};
template <>
struct NoteRow<note::RdmaFile> {
  static constexpr std::string_view kName = "rdma_file";
  static json write(const note::RdmaFile&) { return json::object(); }
  static note::RdmaFile read(const json&, shm::UniqueFd fd) { return {std::move(fd)}; }
  static int descriptor(const note::RdmaFile& said) { return said.file.get(); }
};
template <>
struct NoteRow<note::Control> {
  static constexpr std::string_view kName = "control";
  static json write(const note::Control& said) { return {{"path", said.path}}; }
  static note::Control read(const json& from, shm::UniqueFd fd) {
    return {from.at("path").get<std::string>(), std::move(fd)};
  }
  static int descriptor(const note::Control& said) { return said.socket.get(); }
};
template <>
struct NoteRow<note::PidFile> {
  static constexpr std::string_view kName = "pid_file";
  static json write(const note::PidFile& said) { return {{"path", said.path}}; }
  static note::PidFile read(const json& from, shm::UniqueFd fd) {
    return {from.at("path").get<std::string>(), std::move(fd)};
  }
  static int descriptor(const note::PidFile& said) { return said.file.get(); }
};
template <>
struct NoteRow<note::Begin> {
  static constexpr std::string_view kName = "begin";
  static json write(const note::Begin&) { return json::object(); }
  static note::Begin read(const json&, shm::UniqueFd) { return {}; }
};
template <>
struct NoteRow<note::Ready> {
  static constexpr std::string_view kName = "ready";
  static json write(const note::Ready&) { return json::object(); }
  static note::Ready read(const json&, shm::UniqueFd fd) { return {std::move(fd)}; }
  static int descriptor(const note::Ready& said) { return said.file.get(); }
};
template <>
struct NoteRow<note::Go> {
  static constexpr std::string_view kName = "go";
  static json write(const note::Go& said) {
    json ids = json::array();
    for (const RdmaListenerId& one : said.ids)
      ids.push_back({{"listener", to_json(one.listener)}, {"id", one.id}});
    return {{"ids", ids}, {"leaving", said.leaving}};
  }
  static note::Go read(const json& from, shm::UniqueFd) {
    note::Go said;
    for (const json& one : from.at("ids"))
      said.ids.push_back({listener_from(one.at("listener")), one.at("id").get<uint32_t>()});
    said.leaving = from.value("leaving", said.leaving);
    return said;
  }
};
template <>
struct NoteRow<note::Serving> {
  static constexpr std::string_view kName = "serving";
  static json write(const note::Serving&) { return json::object(); }
  static note::Serving read(const json&, shm::UniqueFd) { return {}; }
};
template <>
struct NoteRow<note::Done> {
  static constexpr std::string_view kName = "done";
  static json write(const note::Done& said) {
    return {{"next_request", said.next_request}, {"hears_leave", said.hears_leave}};
  }
  static note::Done read(const json& from, shm::UniqueFd fd) {
    return {from.at("next_request").get<uint64_t>(), std::move(fd), from.value("hears_leave", false)};
  }
  static int descriptor(const note::Done& said) { return said.registration.get(); }
};
template <>
struct NoteRow<note::Failed> {
  static constexpr std::string_view kName = "failed";
  static json write(const note::Failed& said) {
    json problems = json::array();
    for (const std::string& problem : said.problems) {
      if (problems.size() < kMostProblems) problems.push_back(cut(problem));
    }
    return {{"why", cut(said.why)}, {"problems", problems}};
  }
  static note::Failed read(const json& from, shm::UniqueFd) {
    return {from.at("why").get<std::string>(), from.at("problems").get<std::vector<std::string>>()};
  }
};
template <>
struct NoteRow<note::Stop> {
  static constexpr std::string_view kName = "stop";
  static json write(const note::Stop&) { return json::object(); }
  static note::Stop read(const json&, shm::UniqueFd) { return {}; }
};
template <>
struct NoteRow<note::Leave> {
  static constexpr std::string_view kName = "leave";
  static json write(const note::Leave& said) { return {{"number", said.number}, {"address", said.address}}; }
  static note::Leave read(const json& from, shm::UniqueFd) {
    return {from.at("number").get<uint64_t>(), from.at("address").get<std::string>()};
  }
};
template <>
struct NoteRow<note::Left> {
  static constexpr std::string_view kName = "left";
  static json write(const note::Left& said) {
    return {{"number", said.number},
            {"ended", said.ended},
            {"still_there", said.still_there},
            {"unheard", said.unheard}};
  }
  static note::Left read(const json& from, shm::UniqueFd) {
    return {from.at("number").get<uint64_t>(), from.at("ended").get<uint64_t>(),
            from.at("still_there").get<uint64_t>(), from.at("unheard").get<bool>()};
  }
};

template <class One>
concept HasDescriptor = requires(const One& one) { NoteRow<One>::descriptor(one); };

int descriptor_of(const Note& said) {
  return std::visit(
      []<class One>(const One& one) {
        if constexpr (HasDescriptor<One>) {
          return NoteRow<One>::descriptor(one);
        } else {
          return -1;
        }
      },
      said);
}

template <size_t kAt = 0>
shm::Result<Note> read_as(const std::string& name, const json& from, shm::UniqueFd descriptor) {
  if constexpr (kAt == std::variant_size_v<Note>) {
    return shm::fail("a note of an unknown kind, \"" + name + "\"", EPROTO);
  } else {
    using One = std::variant_alternative_t<kAt, Note>;
    if (NoteRow<One>::kName == name) return Note(NoteRow<One>::read(from, std::move(descriptor)));
    return read_as<kAt + 1>(name, from, std::move(descriptor));
  }
}

}  // namespace

std::string_view note_name(const Note& said) {
  return std::visit([]<class One>(const One&) { return NoteRow<One>::kName; }, said);
}

std::string note_text(const Note& said) {
  json out = std::visit([]<class One>(const One& one) { return NoteRow<One>::write(one); }, said);
  out["note"] = note_name(said);
  return out.dump(-1, ' ', true, json::error_handler_t::replace);
}

shm::Result<Note> parse_note(std::string_view text, shm::UniqueFd descriptor) {
  const json from = json::parse(text, nullptr, false);
  if (!from.is_object() || !from.contains("note") || !from["note"].is_string())
    return shm::fail("what it said is no note", EPROTO);
  const auto name = from["note"].get<std::string>();
  try {
    return read_as(name, from, std::move(descriptor));
  } catch (const std::exception& error) {  // of a member that is missing, or of another type
    return shm::fail("its note \"" + name + "\" cannot be read: " + error.what(), EPROTO);
  }
}

shm::Result<> send_note(int socket, const Note& said) {
  const std::string text = note_text(said);
  const ssize_t sent = shm::send_datagram(socket, text.data(), text.size(), descriptor_of(said), 0);
  if (sent == ssize_t(text.size())) return {};
  return shm::fail("send the note \"" + std::string(note_name(said)) + "\" to the other daemon", errno);
}

shm::Result<Note> receive_note(int socket) {
  std::vector<char> bytes(kMaxNoteBytes);
  iovec piece{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = room.data();
  header.msg_controllen = room.size();
  ssize_t got = -1;
  do {
    got = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return shm::fail("read from the other daemon", errno);
  shm::UniqueFd descriptor;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
    descriptor = shm::UniqueFd(fd);
  }
  if (got == 0) return shm::fail("the other daemon has ended", ECONNRESET);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return shm::fail("a note of the other daemon is too long, or this process has no descriptor left",
                     EPROTO);
  return parse_note({bytes.data(), size_t(got)}, std::move(descriptor));
}

}  // namespace smbdirect::daemon
