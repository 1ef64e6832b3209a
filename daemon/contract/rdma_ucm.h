// SPDX-License-Identifier: MIT
// One open /dev/infiniband/rdma_cm: the kernel's RDMA connection manager by its own ABI (uapi header
// rdma/rdma_user_cm.h, ABI version 4). Used by the supervisor to listen and to hand requests over, and by
// workers to accept them. Links no verbs library and opens no verbs device.
//
// Why not librdmacm: an accepted connection must belong to the worker, but only one process may listen on an
// address and port, and RDMA connections cannot move to another process. A connection request can, before it
// is accepted: the command MIGRATE_ID, written to the new owner's file, names the old owner's file and the
// id. librdmacm has no call for it, and its ids cannot be made from a kernel id.
//
// A file works only for the credentials that opened it: after fork+exec, setuid or a change of capabilities a
// write fails with EACCES. So each process opens its own, after its last change of credentials. Naming
// another process's file (its descriptor inherited) in MIGRATE_ID is allowed; that is all a worker may do
// with the hand-over file it inherits (contract.h).
//
// Ids belong to a file; ids that are still on it are destroyed when its last descriptor closes: listening ids
// stop, requests are rejected, connections are disconnected. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <sys/socket.h>

#include "daemon/contract/claimed_address.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

struct ib_uverbs_qp_attr;  // rdma/ib_user_verbs.h

namespace smbdirect::daemon {

/// The kernel's events by name (enum rdma_cm_event_type), in its order.
enum class CmEventType : uint8_t {
  addr_resolved,
  addr_error,
  route_resolved,
  route_error,
  connect_request,   // on a listening id: a client asks; CmEvent::id is the new id
  connect_response,  // connecting side without a QP of the library's: the peer has accepted
  connect_error,
  unreachable,
  rejected,
  established,
  disconnected,
  device_removal,  // the id's device goes: only destroying is left; a listening id must listen anew
  multicast_join,
  multicast_error,
  addr_change,    // the address moved to another device (bonding): a listening id must listen anew
  timewait_exit,  // the connection's numbers may be used again
};
inline constexpr size_t kCmEventTypes = 16;
/// "connect_request"; "unknown" for a number the table does not have.
[[nodiscard]] std::string_view cm_event_name(CmEventType type);

/// What a connection request, its acceptance or its refusal carries. In an event the two depths are already
/// as seen from this side: initiator_depth is how many RDMA READs we may have outstanding.
struct CmParameters {
  uint32_t qp_num = 0;
  uint8_t responder_resources = 0;
  uint8_t initiator_depth = 0;
  uint8_t flow_control = 0;
  uint8_t retry_count = 0;
  uint8_t rnr_retry_count = 0;
  bool srq = false;
  std::array<std::byte, 256> private_data{};  // RDMA_MAX_PRIVATE_DATA
  uint8_t private_data_length = 0;

  [[nodiscard]] std::span<const std::byte> private_bytes() const {
    return std::span(private_data).first(private_data_length);
  }
};

struct CmEvent {
  CmEventType type{};
  int status = 0;       // rejected: the reason; errors: -errno
  uint32_t id = 0;      // what it is about; connect_request: the new id
  uint64_t cookie = 0;  // of that id (create, accept); connect_request: of the listening id
  CmParameters parameters;
};

/// Where an id is bound and connected: the device by its node GUID (in the kernel's byte order, as
/// ibv_get_device_guid gives it) and port, 0 while there is none, and both addresses.
struct CmAddresses {
  uint64_t node_guid = 0;
  uint8_t port = 0;
  sockaddr_storage local{};
  sockaddr_storage peer{};
};

class RdmaCm {
 public:
  static constexpr const char* kDevice = "/dev/infiniband/rdma_cm";

  /// The system calls, for tests to fake.
  class Calls {
   public:
    virtual ~Calls() = default;
    virtual int open(const char* path);
    /// As write(2): the whole command or -1 with errno.
    virtual ssize_t write(int fd, const void* command, size_t size);
  };

  /// Errors say what to do about them (module not loaded, no permission). calls: outlives the file.
  [[nodiscard]] static shm::Result<RdmaCm> open();
  [[nodiscard]] static shm::Result<RdmaCm> open(Calls& calls);

  /// Readable when an event waits. Non-blocking.
  [[nodiscard]] int fd() const { return file_.get(); }

  /// The next event, or nothing.
  [[nodiscard]] shm::Result<std::optional<CmEvent>> next_event();

  // --- listening ---
  /// A new id for reliable connections; cookie comes back with its events.
  [[nodiscard]] shm::Result<uint32_t> create(uint64_t cookie);
  /// IPv6 ids take no IPv4 peers. ENODEV: no RDMA device has the address; EADDRNOTAVAIL: no interface has.
  [[nodiscard]] shm::Result<> bind(uint32_t id, const sockaddr_storage& address);
  [[nodiscard]] shm::Result<> listen(uint32_t id, uint32_t backlog);
  [[nodiscard]] shm::Result<CmAddresses> query(uint32_t id);
  /// Of the peer's end of a request.
  [[nodiscard]] shm::Result<CmGids> peer_gids(uint32_t id);

  // --- handing over ---
  /// Makes `id`, which is on the file behind from_fd, one of this file's, with its events that have not been
  /// read. ENOENT: there is no such id (any more); EINVAL: it is on another file; ENXIO: its device is gone.
  [[nodiscard]] shm::Result<> migrate(uint32_t id, int from_fd);

  // --- accepting ---
  /// What a QP of this connection must be set to for `state` (enum ib_qp_state), for
  /// ibv_copy_qp_attr_from_kern.
  [[nodiscard]] shm::Result<> qp_attributes(uint32_t id, uint32_t state, ib_uverbs_qp_attr& attributes);
  /// cookie: not 0. The kernel drops what happens to a request before it has one, so a request given up by
  /// its client shows only in this call's failing, or in a disconnected right after it.
  [[nodiscard]] shm::Result<> accept(uint32_t id, uint64_t cookie, const CmParameters& parameters);
  [[nodiscard]] shm::Result<> reject(uint32_t id);
  [[nodiscard]] shm::Result<> disconnect(uint32_t id);
  /// A request is rejected, a connection disconnected. Its events are gone from the file's queue; requests
  /// that a listening id has announced live on, those it has not are rejected.
  [[nodiscard]] shm::Result<> destroy(uint32_t id);

 private:
  RdmaCm(Calls& calls, shm::UniqueFd file) : calls_(&calls), file_(std::move(file)) {}
  template <class Body>
  [[nodiscard]] int send(uint32_t number, const Body& body, size_t response_size);
  template <class Body>
  [[nodiscard]] shm::Result<> command(uint32_t number, const char* name, uint32_t id, const Body& body,
                                      size_t response_size = 0);

  Calls* calls_;
  shm::UniqueFd file_;
};

/// For shm::Watched.
[[nodiscard]] inline int descriptor_of(const RdmaCm& cm) { return cm.fd(); }

}  // namespace smbdirect::daemon
