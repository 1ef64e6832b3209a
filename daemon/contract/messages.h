// SPDX-License-Identifier: MIT
// Every message between the supervisor and a worker: one row each with its number, its name and its fields,
// and lists at the end of which side sends which. The bytes (message_codec.h) and the types that the other
// side receives come from these rows: code that sends a message of the other side, or does not handle one
// that it receives, does not compile. Pure; either side.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <sys/socket.h>
#include <type_traits>
#include <utility>
#include <variant>

#include "protocol/proxy/cookie.h"
#include "shm/base/connection_id.h"
#include "shm/base/guid.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {

enum class Fabric : uint8_t { iwarp, verbs };

/// The answer to a CLAIM in a pool with native peers.
enum class ClaimOutcome : uint32_t {
  granted,  // no process serves the client: WANT_PROCESS. Also for clients that cannot be claimed
  wait,     // its first connection has no process yet: another answer follows
  owner,    // a process serves it: PASS the channel
};

/// Why the supervisor ends a connection that a worker has (END).
enum class EndReason : uint32_t {
  place_needed = 1,    // it has no session, and another client needs its place
  asked_for = 2,       // an administrator wants it to end, whatever it has
  address_leaves = 3,  // its local address leaves this host: within a moment, and smbd sees it reset
};
[[nodiscard]] std::string_view end_reason_text(EndReason reason);

/// What a worker needs to accept a connection request of the RDMA connection manager (rdma_ucm.h).
struct CmRequest {
  static constexpr size_t kPrivateBytes = 8;  // all that SMB Direct has a use for (MS-SMBD 6.1)

  uint32_t id = 0;
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  uint8_t private_data_length = 0;  // as it came; the bytes are the first of it
  std::array<std::byte, kPrivateBytes> private_data{};
};

/// What a message may carry: a member of its own, laid at its place among the bytes.
namespace with {
struct Connection {
  shm::ConnectionId connection{};
  static void lay(auto& self, auto& wire) { wire.number(16, self.connection); }
};
struct Sequence {
  uint64_t sequence = 0;
  static void lay(auto& self, auto& wire) { wire.number(24, self.sequence); }
};
struct Deadline {
  uint32_t deadline_ms = 0;
  static void lay(auto& self, auto& wire) { wire.number(12, self.deadline_ms); }
};
struct Error {
  uint32_t error = 0;  // an errno
  static void lay(auto& self, auto& wire) { wire.number(12, self.error); }
};
struct Process {
  uint32_t process = 0;  // a pid
  static void lay(auto& self, auto& wire) { wire.number(12, self.process); }
};
struct Outcome {
  ClaimOutcome outcome{};
  static void lay(auto& self, auto& wire) { wire.choice(12, "outcome", self.outcome, ClaimOutcome::owner); }
};
struct Reason {
  EndReason reason{};
  static void lay(auto& self, auto& wire) {
    wire.choice(12, "reason", self.reason, EndReason::address_leaves);
  }
};
struct Level {
  shm::log::Level level{};
  static void lay(auto& self, auto& wire) { wire.choice(12, "level", self.level, shm::log::Level::debug); }
};
struct Slot {
  uint32_t slot = 0;
  static void lay(auto& self, auto& wire) { wire.number(12, self.slot); }
};
struct Guid {
  shm::Guid guid{};
  static void lay(auto& self, auto& wire) { wire.octets(40, self.guid.bytes); }
};
struct Cookie {
  protocol::proxy::Cookie cookie{};
  static void lay(auto& self, auto& wire) { wire.octets(40, self.cookie.bytes); }
};
struct Addresses {
  sockaddr_storage peer{};
  sockaddr_storage local{};
  static void lay(auto& self, auto& wire) {
    wire.address(40, self.peer);
    wire.address(64, self.local);
  }
};
struct Client {
  Fabric fabric{};
  sockaddr_storage peer{};
  sockaddr_storage local{};
  CmRequest cm{};  // where the fabric is verbs
  static void lay(auto& self, auto& wire) {
    wire.choice(32, "fabric", self.fabric, Fabric::verbs);
    wire.address(40, self.peer);
    wire.address(64, self.local);
    if (self.fabric != Fabric::verbs) return;
    wire.number(33, self.cm.responder_resources);
    wire.number(34, self.cm.initiator_depth);
    wire.number(35, self.cm.private_data_length);
    wire.number(36, self.cm.id);
    wire.octets(88, self.cm.private_data);
  }
};
/// A descriptor comes beside the bytes.
struct Descriptor {
  static void lay(auto& /*self*/, auto& /*wire*/) {}
};
}  // namespace with

template <size_t kSize>
struct MessageName {
  std::array<char, kSize> text{};
  consteval MessageName(const char (&name)[kSize]) { std::ranges::copy(name, text.begin()); }  // NOLINT
};

/// A row: made as Row{{field}, {field}}.
template <uint16_t kNumber, MessageName kText, class... Fields>
struct Row : Fields... {
  static constexpr uint16_t kType = kNumber;
  static constexpr std::string_view kName{kText.text.data(), kText.text.size() - 1};
  static constexpr bool kCarriesDescriptor = (std::is_same_v<Fields, with::Descriptor> || ...);
  static void lay([[maybe_unused]] auto& self, [[maybe_unused]] auto& wire) {
    (Fields::lay(self, wire), ...);
  }
};

namespace message {
// --- worker -> supervisor ---
/// Configuration applied, memory and loop stand.
using Ready = Row<1, "ready">;
/// With verbs: the id is on a file of the worker's.
using Take = Row<2, "take", with::Connection>;
/// Draining or at a limit.
using Refuse = Row<3, "refuse", with::Connection>;
/// The connection granted under this number has ended.
using Closed = Row<4, "closed", with::Connection>;
using Pong = Row<5, "pong", with::Sequence>;
/// This connection's client wants smbd; asked once, answered by SMBD or NO_SMBD.
using WantSmbd = Row<6, "want_smbd", with::Connection>;
/// The connection's client named itself so (MS-SMB2 2.2.3 ClientGuid).
using Claim = Row<7, "claim", with::Connection, with::Guid>;
/// A channel between that client and smbd is up, until CHANNEL_DOWN or CLOSED. With a native peer the process
/// is what the kernel calls it, and a later one says that another has it; else 0.
using ChannelUp = Row<8, "channel_up", with::Connection, with::Process>;
/// The scoreboard of this worker (shm/scoreboard.h); once, before READY.
using Scoreboard = Row<9, "scoreboard", with::Descriptor>;
/// The report asked for under this number is written.
using Reported = Row<10, "reported", with::Sequence>;
/// A process is to open this connection's channel, with this cookie.
using WantProcess = Row<11, "want_process", with::Connection, with::Cookie>;
/// The channel of this connection, for the process that serves its client.
using Pass = Row<12, "pass", with::Connection, with::Descriptor>;
/// The process of PASS_TO has no channel with this worker.
using NotPassed = Row<13, "not_passed", with::Sequence>;
/// Its channel has ended, or its claim; the connection itself until CLOSED.
using ChannelDown = Row<14, "channel_down", with::Connection>;
/// The server has let the connection's client in (SESSION_SETUP, success); once.
using SessionUp = Row<15, "session_up", with::Connection>;
/// The first of a worker whose supervisor is gone, to one that has found it; of generation 0. ADOPT answers.
using Left = Row<16, "left">;
/// A connection that it has from a former supervisor; what has been said of it follows, as if it were now.
using Kept = Row<17, "kept", with::Connection, with::Addresses>;
/// A copy of this connection's stream to smbd: the worker wants the link to the module in the process that
/// has its other end. MODULE or NO_MODULE answers; then it may ask again, for both may change.
using WantModule = Row<18, "want_module", with::Connection, with::Descriptor>;

// --- supervisor -> worker ---
using Offer = Row<64, "offer", with::Connection, with::Client>;
/// And the connection's descriptor.
using Grant = Row<65, "grant", with::Connection, with::Descriptor>;
using Ping = Row<66, "ping", with::Sequence>;
/// Finish what you have, take no more, exit by the deadline (0: there is none).
using Drain = Row<67, "drain", with::Deadline>;
/// Close everything in an orderly way and exit by the deadline.
using Stop = Row<68, "stop", with::Deadline>;
/// Log totals and one line per connection, with its recent events.
using Dump = Row<69, "dump">;
/// A stream to smbd, which sees the client's address on it.
using Smbd = Row<70, "smbd", with::Connection, with::Descriptor>;
/// There is none; the log of the supervisor says why.
using NoSmbd = Row<71, "no_smbd", with::Connection, with::Error>;
/// A memfd to write the connections' recent events into, as JSON.
using Report = Row<72, "report", with::Sequence, with::Descriptor>;
/// The GUID registry, to be read (native peers only, as those that follow).
using Registry = Row<73, "registry", with::Descriptor>;
/// The listening socket at which started processes open their channels.
using PeerListener = Row<74, "peer_listener", with::Descriptor>;
/// The answer to its CLAIM; not after CHANNEL_UP.
using Claimed = Row<75, "claimed", with::Connection, with::Outcome>;
/// Give that process this channel, of another worker's.
using PassTo = Row<76, "pass_to", with::Sequence, with::Process, with::Descriptor>;
/// Close the connection now; its CLOSED follows.
using End = Row<77, "end", with::Connection, with::Reason>;
/// The least severe lines to log from now on.
using LogLevel = Row<78, "log_level", with::Level>;
/// The listening socket at which a later supervisor finds the worker, once this one is gone.
using AdoptionSocket = Row<79, "adoption_socket", with::Descriptor>;
/// The worker that is left is in this slot from now on, and of the generation that this message has.
using Adopt = Row<80, "adopt", with::Slot>;
/// The link, connected (protocol/proxy/smbdirect_area.h).
using Module = Row<81, "module", with::Connection, with::Descriptor>;
/// There is none. ENOENT: no module listens in a process of this host that has the other end; EHOSTUNREACH:
/// nor is its address one of this host's. EPERM: who
/// listens there is not that process, or is not trusted; or the connection is not the worker's. EAGAIN: one
/// of the two has too much to do. ENOTCONN: what came is no TCP stream, or has ended.
using NoModule = Row<82, "no_module", with::Connection, with::Error>;
}  // namespace message

/// The messages from a worker to the supervisor.
struct FromWorker : std::variant<message::Ready, message::Take, message::Refuse, message::Closed,
                                 message::Pong, message::WantSmbd, message::Claim, message::ChannelUp,
                                 message::Scoreboard, message::Reported, message::WantProcess, message::Pass,
                                 message::NotPassed, message::ChannelDown, message::SessionUp, message::Left,
                                 message::Kept, message::WantModule> {
  using variant::variant;
};
/// The messages from the supervisor to a worker.
struct FromSupervisor
    : std::variant<message::Offer, message::Grant, message::Ping, message::Drain, message::Stop,
                   message::Dump, message::Smbd, message::NoSmbd, message::Report, message::Registry,
                   message::PeerListener, message::Claimed, message::PassTo, message::End, message::LogLevel,
                   message::AdoptionSocket, message::Adopt, message::Module, message::NoModule> {
  using variant::variant;
};

/// "offer", "take", ...
template <class Said>
[[nodiscard]] std::string_view message_name(const Said& said) {
  return std::visit([](const auto& one) { return one.kName; }, said);
}

template <class... Answers>
struct Hearing : Answers... {
  using Answers::operator()...;
};
template <class Row, class Hearing>
consteval bool is_heard() {
  static_assert(std::is_invocable_v<Hearing&, const Row&>, "nobody here hears this message");
  return std::is_invocable_v<Hearing&, const Row&>;
}
/// Calls the answer to what was said; where a message of the list has none, this is not compiled.
template <class... Rows, class... Answers>
auto hear(const std::variant<Rows...>& said, Answers... answers) {
  using All = Hearing<Answers...>;
  if constexpr ((is_heard<Rows, All>() && ...)) return std::visit(All{std::move(answers)...}, said);
}

}  // namespace smbdirect::daemon
