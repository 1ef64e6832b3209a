// SPDX-License-Identifier: MIT
#include "daemon/contract/claimed_address.h"

#include <doctest/doctest.h>

using smbdirect::daemon::CmGids;
using smbdirect::daemon::is_false_claim;
namespace shm = smbdirect::shm;

namespace {
shm::Host host(const char* text) { return shm::host_of(*shm::address_from_text(text, 0)); }
/// A request that claims an address, on a path of this GID: as RoCE's kernel tells it, and as InfiniBand's.
bool roce(const char* claimed, const char* path) {
  return is_false_claim(host(claimed), {.path = host(path), .address = host(claimed)});
}
bool infiniband(const char* claimed, const char* path) {
  return is_false_claim(host(claimed), {.path = host(path), .address = host(path)});
}
}  // namespace

TEST_CASE("on RoCE the path's GID is the address, or belies it") {
  CHECK_FALSE(roce("192.0.2.7", "192.0.2.7"));
  CHECK_FALSE(roce("2001:db8::7", "2001:db8::7"));
  CHECK(roce("192.0.2.1", "192.0.2.7"));
  CHECK(roce("2001:db8::1", "192.0.2.7"));
  CHECK(roce("2001:db8::1", "2001:db8::7"));
  CHECK(roce("192.0.2.1", "2001:db8::7"));
  CHECK_FALSE(roce("fe80::7", "fe80::7"));
}

TEST_CASE("a GID that is no address says nothing") {
  CHECK_FALSE(roce("192.0.2.7", "fe80::202:c9ff:fe01:2345"));
  CHECK_FALSE(infiniband("192.0.2.7", "fe80::2:c903:1:2345"));
  CHECK_FALSE(infiniband("192.0.2.7", "fd00:ab::2:c903:1:2345"));  // a subnet prefix of its own
  CHECK_FALSE(infiniband("fd00:1::7", "fd00:ab::2:c903:1:2345"));
  CHECK_FALSE(is_false_claim(host("192.0.2.7"), CmGids{}));  // iWARP, or an older kernel
}
