// SPDX-License-Identifier: MIT
// A kernel whose rdma_cm file answers as the test wants. (Its header and librdmacm's cannot be in one file.)
#pragma once

#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <sys/eventfd.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_cm.h>

#include "daemon/contract/rdma_ucm.h"
#include "shm/base/socket_address.h"

namespace verbs_test {

namespace daemon = smbdirect::daemon;
namespace shm = smbdirect::shm;

/// The rdma_cm file of a kernel: answers queries with what stands here, and delivers `events`.
class Kernel final : public daemon::RdmaCm::Calls {
 public:
  int open(const char* /*path*/) override { return ::dup(readable_.get()); }

  ssize_t write(int /*fd*/, const void* command, size_t size) override {
    rdma_ucm_cmd_hdr header{};
    std::memcpy(&header, command, sizeof header);
    const auto* body = static_cast<const std::byte*>(command) + sizeof header;
    if (const auto error = errors.find(header.cmd); error != errors.end()) return refuse(error->second);
    switch (header.cmd) {
      case RDMA_USER_CM_CMD_GET_EVENT:
        return get_event(read<rdma_ucm_get_event>(body)) ? static_cast<ssize_t>(size) : refuse(EAGAIN);
      case RDMA_USER_CM_CMD_QUERY:
        answer(read<rdma_ucm_query>(body).response, addresses);
        break;
      case RDMA_USER_CM_CMD_INIT_QP_ATTR: {
        const auto asked = read<rdma_ucm_init_qp_attr>(body);
        ib_uverbs_qp_attr attributes{};
        attributes.qp_state = asked.qp_state;
        attributes.qp_attr_mask = masks[asked.qp_state];
        attributes.dest_qp_num = 0x77;
        answer(asked.response, attributes);
        break;
      }
      case RDMA_USER_CM_CMD_CREATE_ID:
        answer(read<rdma_ucm_create_id>(body).response, rdma_ucm_create_id_resp{.id = kCreated});
        break;
      case RDMA_USER_CM_CMD_BIND:
        bound = read<rdma_ucm_bind>(body);
        break;
      case RDMA_USER_CM_CMD_ACCEPT:
        accepted = read<rdma_ucm_accept>(body);
        break;
      case RDMA_USER_CM_CMD_DISCONNECT:
        disconnected.push_back(read<rdma_ucm_disconnect>(body).id);
        break;
      case RDMA_USER_CM_CMD_DESTROY_ID:
        destroyed.push_back(read<rdma_ucm_destroy_id>(body).id);
        break;
      default:
        FAIL("a command nobody expects: ", header.cmd);
    }
    return static_cast<ssize_t>(size);
  }

  void deliver(daemon::CmEventType type, uint32_t id, uint64_t cookie, int status = 0) {
    rdma_ucm_event_resp event{};
    event.uid = cookie;
    event.id = id;
    event.event = static_cast<uint32_t>(type);
    event.status = static_cast<uint32_t>(status);
    events.push_back(event);
    wake();
  }
  void wake() { CHECK(eventfd_write(readable_.get(), 1) == 0); }

  /// RoCE, or with iwarp the INIT of an iWARP device.
  void set_device(bool iwarp) {
    addresses.node_guid = 0xabcd;
    addresses.port_num = 1;
    const auto local = *shm::address_from_text("192.0.2.1", 445);
    const auto peer = *shm::address_from_text("192.0.2.7", 40000);
    std::memcpy(&addresses.src_addr, &local, sizeof local);
    std::memcpy(&addresses.dst_addr, &peer, sizeof peer);
    masks[IBV_QPS_INIT] = IBV_QP_STATE | IBV_QP_ACCESS_FLAGS;
    if (!iwarp) masks[IBV_QPS_INIT] |= IBV_QP_PKEY_INDEX | IBV_QP_PORT;
    masks[IBV_QPS_RTR] = IBV_QP_STATE | IBV_QP_DEST_QPN | 0x1e00000;  // with bits that are the kernel's own
    masks[IBV_QPS_RTS] = IBV_QP_STATE | IBV_QP_SQ_PSN;
  }

  std::map<uint32_t, int> errors;  // command -> errno
  std::deque<rdma_ucm_event_resp> events;
  rdma_ucm_query_addr_resp addresses{};
  std::map<uint32_t, uint32_t> masks;  // state -> mask
  static constexpr uint32_t kCreated = 90;
  rdma_ucm_bind bound{};
  rdma_ucm_accept accepted{};
  std::vector<uint32_t> destroyed, disconnected;

 private:
  template <class T>
  static T read(const std::byte* from) {
    T value{};
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  template <class T>
  static void answer(uint64_t to, const T& value) {
    std::memcpy(reinterpret_cast<void*>(to), &value, sizeof value);
  }
  static ssize_t refuse(int error) {
    errno = error;
    return -1;
  }
  bool get_event(const rdma_ucm_get_event& asked) {
    if (events.empty()) {
      eventfd_t value = 0;
      (void)eventfd_read(readable_.get(), &value);
      return false;
    }
    answer(asked.response, events.front());
    events.pop_front();
    return true;
  }
  shm::UniqueFd readable_{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
};

}  // namespace verbs_test
