// SPDX-License-Identifier: MIT
// Addresses as people write them on a command line: "127.0.0.1:445", "[::1]:445", "server.example".
// Start-up code of smbdirect-connect only: looking up a name blocks.
#pragma once

#include <string>
#include <sys/socket.h>
#include <vector>

#include "shm/base/result.h"

namespace smbdirect::workers::connect {

/// What stands for a part that the text leaves out. An empty one must be given.
struct AddressDefaults {
  std::string host{};
  std::string port{};
  bool lone_number_is_port = false;  // "4450" is a port, not a host
};

/// Addresses of the name, in the order to try them, with the port; at least one. Errors say what was expected
/// of which text.
[[nodiscard]] shm::Result<std::vector<sockaddr_storage>> parse_addresses(const std::string& text,
                                                                         const AddressDefaults& defaults);
/// The first of them.
[[nodiscard]] shm::Result<sockaddr_storage> parse_address(const std::string& text,
                                                          const AddressDefaults& defaults);

}  // namespace smbdirect::workers::connect
