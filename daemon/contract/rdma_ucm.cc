// SPDX-License-Identifier: MIT
#include "daemon/contract/rdma_ucm.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <string>
#include <sys/types.h>
#include <unistd.h>

#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_cm.h>

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

namespace {

// By number, as enum rdma_cm_event_type has them; that enum is not in the uapi headers, but part of the ABI.
constexpr std::string_view kEventNames[] = {
    "addr_resolved",   "addr_error",       "route_resolved", "route_error",
    "connect_request", "connect_response", "connect_error",  "unreachable",
    "rejected",        "established",      "disconnected",   "device_removal",
    "multicast_join",  "multicast_error",  "addr_change",    "timewait_exit",
};
static_assert(std::size(kEventNames) == kCmEventTypes);
static_assert(static_cast<int>(CmEventType::connect_request) == 4);
static_assert(static_cast<int>(CmEventType::rejected) == 8);
static_assert(static_cast<int>(CmEventType::established) == 9);
static_assert(static_cast<int>(CmEventType::device_removal) == 11);
static_assert(static_cast<int>(CmEventType::timewait_exit) == kCmEventTypes - 1);

// enum ib_qp_type; not in the uapi headers either. The kernel derives the same from the port space.
constexpr uint8_t kReliableConnection = 2;

static_assert(sizeof(sockaddr_storage) == sizeof(__kernel_sockaddr_storage));

/// A command as the kernel reads it: in one write, the header and its body without a gap.
template <class Body>
struct Frame {
  rdma_ucm_cmd_hdr header;
  Body body;
};

uint64_t address_of(void* response) { return reinterpret_cast<uint64_t>(response); }

rdma_ucm_conn_param to_kernel(const CmParameters& parameters) {
  rdma_ucm_conn_param out{};
  out.qp_num = parameters.qp_num;
  static_assert(sizeof out.private_data == sizeof parameters.private_data);
  std::memcpy(out.private_data, parameters.private_data.data(), sizeof out.private_data);
  out.private_data_len = parameters.private_data_length;
  out.srq = parameters.srq ? 1 : 0;
  out.responder_resources = parameters.responder_resources;
  out.initiator_depth = parameters.initiator_depth;
  out.flow_control = parameters.flow_control;
  out.retry_count = parameters.retry_count;
  out.rnr_retry_count = parameters.rnr_retry_count;
  out.valid = 1;  // 0 would mean: accept without parameters
  return out;
}

CmParameters from_kernel(const rdma_ucm_conn_param& parameters) {
  CmParameters out;
  out.qp_num = parameters.qp_num;
  out.responder_resources = parameters.responder_resources;
  out.initiator_depth = parameters.initiator_depth;
  out.flow_control = parameters.flow_control;
  out.retry_count = parameters.retry_count;
  out.rnr_retry_count = parameters.rnr_retry_count;
  out.srq = parameters.srq != 0;
  out.private_data_length = parameters.private_data_len;
  std::memcpy(out.private_data.data(), parameters.private_data, parameters.private_data_len);
  return out;
}

const char* open_advice(int error) {
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return " (is the kernel module loaded? modprobe rdma_ucm)";
    case EACCES:
    case EPERM:
      return " (the device must be readable and writable for this process's user)";
    case EMFILE:
    case ENFILE:
      return " (raise the limit of open files)";
    default:
      return "";
  }
}

const char* command_advice(int error) {
  // The kernel compares credentials at every write.
  return error == EACCES
             ? " (the process's credentials have changed since it opened the file, or it lacks a privilege)"
             : "";
}

const char* bind_advice(int error) {
  switch (error) {
    case ENODEV:
      return " (no RDMA device has this address; \"rdma link\" lists the devices)";
    case EADDRNOTAVAIL:
      return " (no network interface has this address)";
    case EADDRINUSE:
      return " (another program listens there for RDMA, such as ksmbd or a second smbdirectd; \"rdma "
             "resource show cm_id\" "
             "shows them)";
    case EACCES:
      return " (ports below 1024 need CAP_NET_BIND_SERVICE)";
    default:
      return "";
  }
}

}  // namespace

std::string_view cm_event_name(CmEventType type) {
  const auto number = static_cast<size_t>(type);
  return number < kCmEventTypes ? kEventNames[number] : "unknown";
}

int RdmaCm::Calls::open(const char* path) { return ::open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK); }

ssize_t RdmaCm::Calls::write(int fd, const void* command, size_t size) { return ::write(fd, command, size); }

shm::Result<RdmaCm> RdmaCm::open() {
  static Calls system;  // has no state
  return open(system);
}

shm::Result<RdmaCm> RdmaCm::open(Calls& calls) {
  shm::UniqueFd file(calls.open(kDevice));
  if (!file.valid()) {
    const int error = errno;
    return shm::fail(std::string("open ") + kDevice + open_advice(error), error);
  }
  return RdmaCm(calls, std::move(file));
}

/// The system's reason, or 0.
template <class Body>
int RdmaCm::send(uint32_t number, const Body& body, size_t response_size) {
  Frame<Body> frame{};
  static_assert(offsetof(Frame<Body>, body) == sizeof(rdma_ucm_cmd_hdr));
  frame.header = {.cmd = number, .in = sizeof(Body), .out = static_cast<uint16_t>(response_size)};
  frame.body = body;
  const size_t size = sizeof frame.header + sizeof body;
  const ssize_t written = calls_->write(file_.get(), &frame, size);
  if (written < 0) return errno;
  // The kernel takes a command whole or not at all.
  return static_cast<size_t>(written) == size ? 0 : EIO;
}

template <class Body>
shm::Result<> RdmaCm::command(uint32_t number, const char* name, uint32_t id, const Body& body,
                              size_t response_size) {
  const int error = send(number, body, response_size);
  if (error == 0) return {};
  return shm::fail(std::string("RDMA connection manager: ") + name + " of id " + std::to_string(id) +
                       command_advice(error),
                   error);
}

shm::Result<std::optional<CmEvent>> RdmaCm::next_event() {
  rdma_ucm_event_resp response{};
  rdma_ucm_get_event body{};
  body.response = address_of(&response);
  const int error = send(RDMA_USER_CM_CMD_GET_EVENT, body, sizeof response);
  if (error == EAGAIN) return std::optional<CmEvent>();
  if (error != 0) {
    return shm::fail(std::string("RDMA connection manager: read an event") + command_advice(error), error);
  }
  CmEvent event;
  event.type = static_cast<CmEventType>(std::min<uint32_t>(response.event, UINT8_MAX));
  event.status = static_cast<int>(response.status);
  event.id = response.id;
  event.cookie = response.uid;
  // Reliable connections only: the union is always the one of these.
  event.parameters = from_kernel(response.param.conn);
  return std::optional(event);
}

shm::Result<uint32_t> RdmaCm::create(uint64_t cookie) {
  rdma_ucm_create_id_resp response{};
  rdma_ucm_create_id body{};
  body.uid = cookie;
  body.response = address_of(&response);
  body.ps = RDMA_PS_TCP;
  body.qp_type = kReliableConnection;
  const int error = send(RDMA_USER_CM_CMD_CREATE_ID, body, sizeof response);
  if (error != 0) {
    return shm::fail(std::string("RDMA connection manager: create an id") + command_advice(error), error);
  }
  return response.id;
}

shm::Result<> RdmaCm::bind(uint32_t id, const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6) {
    int only = 1;
    rdma_ucm_set_option option{};
    option.optval = address_of(&only);
    option.id = id;
    option.level = RDMA_OPTION_ID;
    option.optname = RDMA_OPTION_ID_AFONLY;
    option.optlen = sizeof only;
    const auto set = command(RDMA_USER_CM_CMD_SET_OPTION, "set IPv6-only", id, option);
    if (!set) return set;
  }
  rdma_ucm_bind body{};
  body.id = id;
  body.addr_size = static_cast<uint16_t>(shm::length_of(address));
  std::memcpy(&body.addr, &address, sizeof body.addr);
  const int error = send(RDMA_USER_CM_CMD_BIND, body, 0);
  if (error == 0) return {};
  return shm::fail("bind an RDMA listener to " + shm::address_text(address) + bind_advice(error), error);
}

shm::Result<> RdmaCm::listen(uint32_t id, uint32_t backlog) {
  rdma_ucm_listen body{};
  body.id = id;
  body.backlog = backlog;
  return command(RDMA_USER_CM_CMD_LISTEN, "listen", id, body);
}

shm::Result<CmAddresses> RdmaCm::query(uint32_t id) {
  rdma_ucm_query_addr_resp response{};
  rdma_ucm_query body{};
  body.response = address_of(&response);
  body.id = id;
  body.option = RDMA_USER_CM_QUERY_ADDR;
  const auto asked = command(RDMA_USER_CM_CMD_QUERY, "query the addresses", id, body, sizeof response);
  if (!asked) return std::unexpected(asked.error());
  CmAddresses out;
  out.node_guid = response.node_guid;
  out.port = response.port_num;
  std::memcpy(&out.local, &response.src_addr, sizeof out.local);
  std::memcpy(&out.peer, &response.dst_addr, sizeof out.peer);
  return out;
}

shm::Result<CmGids> RdmaCm::peer_gids(uint32_t id) {
  constexpr size_t kRoom = 512;  // for more paths than there can be, and all that the queries answer
  constexpr size_t kGidAt = 8;   // of a packed sa_path_rec: after its service id
  CmGids gids;
  alignas(uint64_t) std::array<std::byte, kRoom> room{};
  rdma_ucm_query body{};
  body.response = address_of(room.data());
  body.id = id;
  body.option = RDMA_USER_CM_QUERY_PATH;
  auto asked = command(RDMA_USER_CM_CMD_QUERY, "query the path", id, body, kRoom);
  if (!asked) return std::unexpected(asked.error());
  rdma_ucm_query_path_resp paths{};
  std::memcpy(&paths, room.data(), sizeof paths);
  if (paths.num_paths == 0 || paths.num_paths > 2) return gids;
  std::memcpy(gids.path.data(), room.data() + sizeof paths + offsetof(ib_path_rec_data, path_rec) + kGidAt,
              gids.path.size());
  room = {};
  body.option = RDMA_USER_CM_QUERY_GID;
  asked = command(RDMA_USER_CM_CMD_QUERY, "query the GIDs", id, body, kRoom);
  if (!asked) return std::unexpected(asked.error());
  constexpr size_t kAddressAt = 8;  // sockaddr_ib: family, partition key and flow label precede it
  std::memcpy(gids.address.data(), room.data() + offsetof(rdma_ucm_query_addr_resp, dst_addr) + kAddressAt,
              gids.address.size());
  return gids;
}

shm::Result<> RdmaCm::migrate(uint32_t id, int from_fd) {
  rdma_ucm_migrate_resp response{};
  rdma_ucm_migrate_id body{};
  body.response = address_of(&response);
  body.id = id;
  body.fd = static_cast<uint32_t>(from_fd);
  return command(RDMA_USER_CM_CMD_MIGRATE_ID, "take over", id, body, sizeof response);
}

shm::Result<> RdmaCm::qp_attributes(uint32_t id, uint32_t state, ib_uverbs_qp_attr& attributes) {
  attributes = {};
  rdma_ucm_init_qp_attr body{};
  body.response = address_of(&attributes);
  body.id = id;
  body.qp_state = state;
  return command(RDMA_USER_CM_CMD_INIT_QP_ATTR, "get the queue pair's attributes", id, body,
                 sizeof attributes);
}

shm::Result<> RdmaCm::accept(uint32_t id, uint64_t cookie, const CmParameters& parameters) {
  rdma_ucm_accept body{};
  body.uid = cookie;
  body.conn_param = to_kernel(parameters);
  body.id = id;
  return command(RDMA_USER_CM_CMD_ACCEPT, "accept", id, body);
}

shm::Result<> RdmaCm::reject(uint32_t id) {
  rdma_ucm_reject body{};  // reason 0: the kernel's "consumer defined"
  body.id = id;
  return command(RDMA_USER_CM_CMD_REJECT, "reject", id, body);
}

shm::Result<> RdmaCm::disconnect(uint32_t id) {
  rdma_ucm_disconnect body{};
  body.id = id;
  return command(RDMA_USER_CM_CMD_DISCONNECT, "disconnect", id, body);
}

shm::Result<> RdmaCm::destroy(uint32_t id) {
  // The response counts the events that were read; who reads events on the thread that destroys has none
  // left to wait for.
  rdma_ucm_destroy_id_resp response{};
  rdma_ucm_destroy_id body{};
  body.response = address_of(&response);
  body.id = id;
  return command(RDMA_USER_CM_CMD_DESTROY_ID, "destroy", id, body, sizeof response);
}

}  // namespace smbdirect::daemon
