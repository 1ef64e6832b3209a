// SPDX-License-Identifier: MIT
// One client connection of a worker: SMB Direct on one side, a stream to its server on the other, and what
// is carried between them (exchange.h). Owned by the worker, on its loop; when the worker dies both ends
// close.
//
// The stream is opened when the client's first SMB2 message is a valid NEGOTIATE. However the session ends,
// smbd never sees a PDU completed that the client did not complete: where it has a part of one, or bytes for
// it are still here, its socket is reset, and also where we end the session. A client that is lost between
// messages is to smbd as one over TCP that closes: an smbd before 4.25 that finds a reset when it is about to
// break a lease stays for good (Samba's bug 15995), and whoever waits for the lease waits for 35 seconds.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "daemon/contract/worker_config.h"
#include "shm/base/connection_id.h"
#include "shm/loop/loop.h"
#include "shm/scoreboard.h"
#include "workers/memory/charge.h"
#include "workers/session/context.h"
#include "workers/session/exchange.h"
#include "workers/session/server_stream.h"

namespace smbdirect::workers {

/// What all sessions of a worker share; outlives them.
struct SessionResources {
  uv_loop_t& loop;
  const daemon::WorkerConfig& config;
  SlabPool& slabs;          // payload
  SlabPool& receive_slabs;  // one message each
  SlabPool& header_slabs;
  WorkerMemory& memory;                                                             // of all connections
  std::function<std::unique_ptr<Exchange>(SessionContext& context)> make_exchange;  // what the pool serves
  // What the supervisor hears of a connection (contract.h): CLAIM, CHANNEL_UP, CHANNEL_DOWN, SESSION_UP.
  std::function<void(shm::ConnectionId connection, const smb2::Guid& client_guid)> claim;
  std::function<void(shm::ConnectionId connection, uint32_t process)> channel_up;
  std::function<void(shm::ConnectionId connection)> channel_down;
  std::function<void(shm::ConnectionId connection)> session_up;
  std::function<void(const std::string& text)> advise;  // what the administrator should know, once in a while
  shm::Latencies* latencies = nullptr;                  // of the worker; null: nobody counts durations
};

class Session final : private Transport::Owner,
                      private SessionEvents,
                      private ServerStream::Owner,
                      private MemoryHolder {
 public:
  /// Called once, from the loop, when everything is over; the owner may then destroy the session (later,
  /// not inside the call).
  using Ended = std::function<void(const std::string& why, bool clean)>;

  /// connection: the number the supervisor knows this connection by. peer: the client's address, as log lines
  /// have it.
  struct Client {
    shm::ConnectionId connection{};
    sockaddr_storage address{};
    sockaddr_storage server{};  // the address of ours that it has connected to
    std::string peer;
  };
  Session(const SessionResources& resources, Client client, Ended ended);
  ~Session();

  [[nodiscard]] bool start(const Transport::MakeEndpoint& make_endpoint);
  /// Finish and close: what smbd has sent is delivered first.
  void stop(const std::string& why);
  /// Close, for the address that the client has connected to goes elsewhere. smbd sees a lost connection at
  /// once, whatever is on its way, so that the client finds its durable handles when it comes back. The
  /// client is told, and has kGoodbyeMs to go.
  void leave(const std::string& why);
  static constexpr uint64_t kGoodbyeMs = 200;
  /// Over at once: nothing more is delivered, and nobody is waited for.
  void end(const std::string& why);
  /// The answer to WANT_MODULE.
  void module_answered(shm::Result<shm::UniqueFd> link) { exchange_->module_answered(std::move(link)); }
  /// Says again what was said to a supervisor that is gone: CLAIM, CHANNEL_UP, SESSION_UP.
  void introduce() const;
  [[nodiscard]] const sockaddr_storage& address() const { return client_.address; }
  [[nodiscard]] const sockaddr_storage& server() const { return client_.server; }
  /// The server has let the client in.
  [[nodiscard]] bool has_session() const { return context_.set_up; }
  /// Gives back memory that was not needed since the last call.
  void trim() {
    transport_.trim();
    exchange_->outbox().trim();
    exchange_->tidy();
    translator_.trim();
    requests_.set(translator_.bytes());
  }

  [[nodiscard]] Counters counters() const { return transport_.counters(); }
  [[nodiscard]] EventRing& events() { return transport_.events(); }
  [[nodiscard]] const std::string& peer() const { return client_.peer; }
  [[nodiscard]] const smb_direct::Engine& engine() const { return transport_.engine(); }
  /// All that a session knows of its row.
  [[nodiscard]] shm::ConnectionRow row() const;

 private:
  void on_negotiated() override;
  void on_fragment(Fragment fragment) override;
  void on_read_done(uint64_t cookie) override;
  void on_writes_done(uint64_t count) override;
  void on_invalidated(uint32_t /*token*/) override {}
  void on_progress() override;
  void on_fault(const std::string& why) override;
  void on_closed(const std::string& why, bool clean) override;

  void on_negotiate(const smb2::NegotiateRequest& negotiate, std::span<const std::byte> pdu) override;
  void on_agreed(const smb2::NegotiateResponse& agreed) override;
  void on_attached(uint32_t process) override;
  void on_session_set_up() override;
  void on_queued() override { stream_.flush(); }
  /// Of the exchange's, and of the stream's.
  void on_broken(std::string why) override;

  void on_stream_up(uint32_t process) override;
  void on_stream_moved() override;
  void on_stream_end() override;

  [[nodiscard]] uint64_t reclaimable() const override;
  [[nodiscard]] uint64_t stuck_since() override;
  [[nodiscard]] bool waits_for_others() const override;
  void let_through() override;
  void end_for_others(std::string why) override { end(why); }

  void allow_all();
  void limit_receives();
  void close_stream(bool orderly);
  void await_memory();
  void stop_timers();
  [[nodiscard]] shm::ConnectionPhase phase() const;
  void on_retry();
  void tell_end(const std::string& why, bool clean);
  [[nodiscard]] uint64_t number() const { return std::to_underlying(client_.connection); }

  const SessionResources& resources_;
  Client client_;
  Ended ended_;
  std::shared_ptr<WorkerMemory::Client> share_;
  Budget budget_;
  Admission admission_;
  SessionMemory memory_;
  smb2::ServerTranslator translator_;
  Charge requests_;  // for what the translator keeps of them
  Transport transport_;
  SessionContext context_;
  std::unique_ptr<Exchange> exchange_;
  ServerStream stream_;
  shm::Timer retry_timer_;                     // memory was short
  shm::Timer negotiate_timer_;                 // SMB Direct is up: the client's NEGOTIATE must come
  shm::Timer session_timer_;                   // the server must let the client in
  std::unique_ptr<shm::Timer> goodbye_timer_;  // the client must be gone; null: it may stay
  std::optional<std::string> broken_;
  bool over_ = false;

  uint64_t since_ms_;
  smb2::Guid client_guid_{};
  bool claimed_ = false;
  uint32_t process_ = 0;        // that has the stream, where that is known
  bool many_receives_ = false;  // the client may have more than it began with
};

}  // namespace smbdirect::workers
