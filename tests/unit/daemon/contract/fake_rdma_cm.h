// SPDX-License-Identifier: MIT
// An rdma_cm file that records each command as its bytes, with the response's address blanked out, and
// answers what the test wants.
#pragma once

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/contract/rdma_ucm.h"

namespace rdma_ucm_test {

using smbdirect::daemon::RdmaCm;
using Bytes = std::vector<uint8_t>;

class Build {
 public:
  Build& u8(uint8_t v) { return put(&v, sizeof v); }
  Build& u16(uint16_t v) { return put(&v, sizeof v); }
  Build& u32(uint32_t v) { return put(&v, sizeof v); }
  Build& u64(uint64_t v) { return put(&v, sizeof v); }
  Build& zeros(size_t n) {
    bytes_.resize(bytes_.size() + n);
    return *this;
  }
  Build& pad_to(size_t size) {
    bytes_.resize(size);
    return *this;
  }
  operator const Bytes&() const { return bytes_; }
  friend bool operator==(const Bytes& bytes, const Build& build) { return bytes == build.bytes_; }

 private:
  Build& put(const void* from, size_t size) {
    const auto* bytes = static_cast<const uint8_t*>(from);
    bytes_.insert(bytes_.end(), bytes, bytes + size);
    return *this;
  }
  Bytes bytes_;
};

template <class T>
T read_at(const Bytes& bytes, size_t offset) {
  T value{};
  REQUIRE(offset + sizeof value <= bytes.size());
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// Command numbers and where in the body (after 8 bytes of header) the response's address is.
enum : uint32_t {
  kCreate = 0,
  kDestroy = 1,
  kListen = 7,
  kAccept = 8,
  kReject = 9,
  kDisconnect = 10,
  kInitQpAttr = 11,
  kGetEvent = 12,
  kSetOption = 14,
  kMigrate = 18,
  kQuery = 19,
  kBind = 20,
};
inline const std::map<uint32_t, size_t> kResponseAt = {{kCreate, 16},  {kDestroy, 8}, {kInitQpAttr, 8},
                                                       {kGetEvent, 8}, {kQuery, 8},   {kMigrate, 8},
                                                       {kSetOption, 8}};

class Kernel final : public RdmaCm::Calls {
 public:
  int open(const char* path) override {
    opened = path;
    if (open_error != 0) {
      errno = open_error;
      return -1;
    }
    return ::dup(2);
  }
  ssize_t write(int fd, const void* command, size_t size) override {
    CHECK(fd >= 0);
    Bytes bytes(static_cast<const uint8_t*>(command), static_cast<const uint8_t*>(command) + size);
    const auto number = read_at<uint32_t>(bytes, 0);
    CHECK(read_at<uint16_t>(bytes, 4) == size - 8);
    if (const auto at = kResponseAt.find(number); at != kResponseAt.end()) {
      const auto address = read_at<uint64_t>(bytes, at->second);
      CHECK(address != 0);
      std::memset(bytes.data() + at->second, 0, 8);
      const size_t room = number == kSetOption ? 4 : read_at<uint16_t>(bytes, 6);
      if (number == kSetOption) option = *reinterpret_cast<const int*>(address);
      CHECK(answer.size() <= room);
      if (number != kSetOption && error == 0 && !answer.empty()) {
        std::memcpy(reinterpret_cast<void*>(address), answer.data(), answer.size());
      }
    }
    commands.push_back(std::move(bytes));
    if (error != 0) {
      errno = error;
      return -1;
    }
    return static_cast<ssize_t>(size) - cut;
  }

  std::string opened;
  int open_error = 0;
  int error = 0;
  ssize_t cut = 0;
  int option = 0;
  Bytes answer;
  std::vector<Bytes> commands;
};

}  // namespace rdma_ucm_test
