// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/connect_causes.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace smbdirect::workers::fabric::verbs {

namespace {

// Reasons of InfiniBand's REJ (IBTA 12.6.7.2), which RoCE uses too.
constexpr int kTimeout = 4;           // the server's own set-up took too long
constexpr int kNoListener = 8;        // invalid service id
constexpr int kStaleConnection = 10;  // the same numbers are still in use there
constexpr int kConsumerRefused = 28;  // the program that listens there said no

std::string rejected_text(int status, const std::string& server) {
  switch (status) {
    case kConsumerRefused:
      return server + " refused the connection (it listens for RDMA, but does not accept this connection)";
    case kNoListener:
      return server + " refused the connection: nothing listens for RDMA on this port";
    case kStaleConnection:
      return server + " refused the connection: an earlier one with the same ids has not expired yet";
    case kTimeout:
      return server + " gave up while the connection was set up";
    case -ECONNREFUSED:  // iWARP has no reasons
    case -ECONNRESET:
      return server + " refused the connection, or nothing listens for RDMA on this port";
    default:
      return server + " refused the connection (reason " + std::to_string(status) + ")";
  }
}

std::string reason(int status) {
  return status < -1 ? std::string(std::strerror(-status)) : "status " + std::to_string(status);
}

}  // namespace

std::string refused_call_text(const char* call, int system_errno, const std::string& server) {
  switch (system_errno) {
    case ENODEV:
      return "no RDMA device reaches " + server + " (\"rdma link\" lists the devices and their interfaces)";
    case EADDRNOTAVAIL:
      return "no network interface has the source address of the connection to " + server;
    case ENETUNREACH:
    case EHOSTUNREACH:
      return "no route leads to " + server;
    case ETIMEDOUT:
      return "no host answers at the address of " + server;
    case ECONNREFUSED:  // siw connects while it is called
      return rejected_text(-ECONNREFUSED, server);
    default:
      return std::string(call) + " of the connection to " + server + ": " + std::strerror(system_errno);
  }
}

std::string failure_text(rdma_cm_event_type type, int status, const std::string& server) {
  switch (type) {
    case RDMA_CM_EVENT_ADDR_ERROR:
      // The library says -1 when it cannot open the device that the kernel chose.
      return status < -1 ? refused_call_text("rdma_resolve_addr", -status, server)
                         : "the RDMA device that reaches " + server + " cannot be used";
    case RDMA_CM_EVENT_ROUTE_ERROR:
      return "no RDMA path leads to " + server + ": " + reason(status);
    case RDMA_CM_EVENT_UNREACHABLE:
      return server + " does not answer to RDMA connection requests: " + reason(status);
    case RDMA_CM_EVENT_REJECTED:
      return rejected_text(status, server);
    case RDMA_CM_EVENT_DISCONNECTED:
      return server + " ended the connection while it was set up";
    default:
      return "the connection to " + server + " could not be set up: " + reason(status);
  }
}

}  // namespace smbdirect::workers::fabric::verbs
