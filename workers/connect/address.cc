// SPDX-License-Identifier: MIT
#include "workers/connect/address.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <netdb.h>

namespace smbdirect::workers::connect {

namespace {

bool all_digits(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

struct Parts {
  std::string host;
  std::string port;
};

shm::Result<Parts> split(const std::string& text, bool lone_number_is_port) {
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string::npos)
      return shm::fail("\"" + text + "\": the ] after the IPv6 address is missing");
    const std::string rest = text.substr(end + 1);
    if (!rest.empty() && !rest.starts_with(':')) {
      return shm::fail("\"" + text + "\": expected [ADDRESS]:PORT");
    }
    return Parts{text.substr(1, end - 1), rest.empty() ? "" : rest.substr(1)};
  }
  const auto colons = std::count(text.begin(), text.end(), ':');
  if (colons > 1) return Parts{text, ""};
  if (colons == 1) {
    const size_t colon = text.find(':');
    return Parts{text.substr(0, colon), text.substr(colon + 1)};
  }
  if (lone_number_is_port && all_digits(text)) return Parts{"", text};
  return Parts{text, ""};
}

}  // namespace

shm::Result<std::vector<sockaddr_storage>> parse_addresses(const std::string& text,
                                                           const AddressDefaults& defaults) {
  auto parts = split(text, defaults.lone_number_is_port);
  if (!parts) return std::unexpected(parts.error());
  if (parts->host.empty()) parts->host = defaults.host;
  if (parts->port.empty()) parts->port = defaults.port;
  if (parts->host.empty()) return shm::fail("\"" + text + "\" has no address");
  if (parts->port.empty()) return shm::fail("\"" + text + "\" has no port: write ADDRESS:PORT");
  if (!all_digits(parts->port) || parts->port.size() > 5 || std::stoul(parts->port) > 65535) {
    return shm::fail("\"" + parts->port + "\" in \"" + text + "\" is not a port from 0 to 65535");
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(parts->host.c_str(), parts->port.c_str(), &hints, &list);
  if (error != 0) return shm::fail("look up \"" + parts->host + "\": " + ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<sockaddr_storage> addresses;
  for (const addrinfo* one = list; one != nullptr; one = one->ai_next) {
    sockaddr_storage address{};
    std::memcpy(&address, one->ai_addr, one->ai_addrlen);
    const auto same = [&](const sockaddr_storage& other) {
      return std::memcmp(&other, &address, sizeof address) == 0;
    };
    if (std::ranges::none_of(addresses, same)) addresses.push_back(address);
  }
  return addresses;
}

shm::Result<sockaddr_storage> parse_address(const std::string& text, const AddressDefaults& defaults) {
  const auto all = parse_addresses(text, defaults);
  if (!all) return std::unexpected(all.error());
  return all->front();
}

}  // namespace smbdirect::workers::connect
