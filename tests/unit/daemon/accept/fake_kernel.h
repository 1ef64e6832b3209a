// SPDX-License-Identifier: MIT
// The kernel's connection manager as far as listening and handing over go: files, the ids on them, who may
// move them, devices that come and go. Tests hold real descriptors (eventfds, readable while an event waits),
// so loops can watch them.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <netinet/in.h>
#include <optional>
#include <set>
#include <string>
#include <sys/eventfd.h>
#include <unistd.h>

#include <doctest/doctest.h>
#include <rdma/rdma_user_cm.h>

#include "daemon/contract/rdma_ucm.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon::fake {

class Kernel final : public RdmaCm::Calls {
 public:
  struct Id {
    int file = -1;
    uint64_t uid = 0;
    sockaddr_storage local{};
    sockaddr_storage peer{};
    std::optional<shm::Host> gid{};  // of the request's path, on RoCE
    bool bound = false;
    bool listening = false;
    bool rejected = false;
  };

  std::set<std::string> devices;  // addresses that RDMA devices have
  std::set<std::string> absent;   // addresses that no interface has
  std::map<uint32_t, Id> ids;
  std::map<uint32_t, Id> destroyed;
  std::map<uint32_t, int> fail_command;  // command -> errno, until taken out

  int open(const char*) override {
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    events_[fd].clear();
    numbers_[fd] = number_of(fd);
    return fd;
  }

  ssize_t write(int fd, const void* command, size_t size) override {
    rdma_ucm_cmd_hdr header{};
    std::memcpy(&header, command, sizeof header);
    const auto* body = static_cast<const std::byte*>(command) + sizeof header;
    REQUIRE(size == sizeof header + header.in);
    const auto failing = fail_command.find(header.cmd);
    const int error = failing != fail_command.end() ? failing->second : run(fd, header.cmd, body);
    if (error == 0) return ssize_t(size);
    errno = error;
    return -1;
  }

  /// A client asks for a connection at the one listening id; its id.
  uint32_t request(const char* peer, uint8_t private_length = 0, const char* gid = nullptr) {
    for (const auto& [listener, facts] : ids) {
      if (!facts.listening) continue;
      const uint32_t id = ++last_id_;
      ids[id] = {
          .file = facts.file,
          .local = facts.local,
          .peer = *shm::address_from_text(peer, 40'000),
          .gid = gid == nullptr ? std::nullopt : std::optional(shm::host_of(*shm::address_from_text(gid, 0))),
          .bound = true};
      rdma_ucm_event_resp event{};
      event.uid = facts.uid;
      event.id = id;
      event.event = uint32_t(CmEventType::connect_request);
      event.param.conn.responder_resources = 1;
      event.param.conn.initiator_depth = 32;
      event.param.conn.private_data_len = private_length;
      for (uint8_t i = 0; i < private_length; ++i) event.param.conn.private_data[i] = i;
      push(facts.file, event);
      return id;
    }
    FAIL("nothing listens");
    return 0;
  }

  /// The device under the listening ids goes, or their address moves.
  void strike(CmEventType type) {
    for (auto& [id, facts] : ids) {
      if (!facts.listening) continue;
      rdma_ucm_event_resp event{};
      event.uid = facts.uid;
      event.id = id;
      event.event = uint32_t(type);
      push(facts.file, event);
    }
  }

 private:
  template <class Body>
  static Body read(const std::byte* bytes) {
    Body body{};
    std::memcpy(&body, bytes, sizeof body);
    return body;
  }
  template <class Response>
  static void answer(uint64_t at, const Response& response) {
    std::memcpy(reinterpret_cast<void*>(at), &response, sizeof response);
  }
  void push(int fd, const rdma_ucm_event_resp& event) {
    events_[fd].push_back(event);
    REQUIRE(eventfd_write(fd, 1) == 0);
  }
  int find(int fd, uint32_t id, Id*& out) {
    const auto found = ids.find(id);
    if (found == ids.end()) return ENOENT;
    if (found->second.file != fd) return EINVAL;
    out = &found->second;
    return 0;
  }

  int run(int fd, uint32_t number, const std::byte* bytes) {
    Id* id = nullptr;
    int error = 0;
    switch (number) {
      case RDMA_USER_CM_CMD_CREATE_ID: {
        const auto body = read<rdma_ucm_create_id>(bytes);
        ids[++last_id_] = {.file = fd, .uid = body.uid};
        answer(body.response, rdma_ucm_create_id_resp{last_id_});
        return 0;
      }
      case RDMA_USER_CM_CMD_BIND: {
        const auto body = read<rdma_ucm_bind>(bytes);
        if (error = find(fd, body.id, id); error != 0) return error;
        std::memcpy(&id->local, &body.addr, sizeof id->local);
        const std::string text = shm::address_text(id->local);
        if (absent.contains(text)) return EADDRNOTAVAIL;
        if (!devices.contains(text)) return ENODEV;
        id->bound = true;
        return 0;
      }
      case RDMA_USER_CM_CMD_SET_OPTION:
        return find(fd, read<rdma_ucm_set_option>(bytes).id, id);
      case RDMA_USER_CM_CMD_LISTEN:
        if (error = find(fd, read<rdma_ucm_listen>(bytes).id, id); error != 0) return error;
        id->listening = id->bound;
        return id->bound ? 0 : EINVAL;
      case RDMA_USER_CM_CMD_QUERY: {
        const auto body = read<rdma_ucm_query>(bytes);
        if (error = find(fd, body.id, id); error != 0) return error;
        if (body.option == RDMA_USER_CM_QUERY_PATH) {
          std::array<std::byte, sizeof(rdma_ucm_query_path_resp) + sizeof(ib_path_rec_data)> path{};
          path[0] = std::byte(id->gid ? 1 : 0);
          if (id->gid) std::memcpy(&path[sizeof(rdma_ucm_query_path_resp) + 8 + 8], id->gid->data(), 16);
          answer(body.response, path);
          return 0;
        }
        rdma_ucm_query_addr_resp response{};
        if (body.option == RDMA_USER_CM_QUERY_GID) {
          const shm::Host made = shm::host_of(id->peer);
          std::memcpy(reinterpret_cast<std::byte*>(&response.dst_addr) + 8, made.data(), made.size());
          answer(body.response, response);
          return 0;
        }
        response.node_guid = 0x1122;
        response.port_num = 1;
        std::memcpy(&response.src_addr, &id->local, sizeof id->local);
        std::memcpy(&response.dst_addr, &id->peer, sizeof id->peer);
        answer(body.response, response);
        return 0;
      }
      case RDMA_USER_CM_CMD_GET_EVENT: {
        auto& queue = events_[fd];
        if (queue.empty()) return EAGAIN;
        answer(read<rdma_ucm_get_event>(bytes).response, queue.front());
        queue.pop_front();
        eventfd_t count = 0;
        if (queue.empty()) eventfd_read(fd, &count);
        return 0;
      }
      case RDMA_USER_CM_CMD_MIGRATE_ID: {
        const auto body = read<rdma_ucm_migrate_id>(bytes);
        const int from = original_of(int(body.fd));
        if (error = find(from, body.id, id); error != 0) return error;
        id->file = fd;
        move_events(from, fd, body.id);
        return 0;
      }
      case RDMA_USER_CM_CMD_REJECT:
        if (error = find(fd, read<rdma_ucm_reject>(bytes).id, id); error != 0) return error;
        id->rejected = true;
        return 0;
      case RDMA_USER_CM_CMD_DESTROY_ID: {
        const uint32_t number_of_id = read<rdma_ucm_destroy_id>(bytes).id;
        if (error = find(fd, number_of_id, id); error != 0) return error;
        destroyed.insert(ids.extract(number_of_id));
        return 0;
      }
      default:
        return ENOSYS;
    }
  }

  /// The kernel's number of an eventfd, the same for each copy of its descriptor.
  static std::string number_of(int fd) {
    std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
    for (std::string word; info >> word;) {
      if (word == "eventfd-id:" && info >> word) return word;
    }
    return {};
  }
  /// The descriptor that the file was opened as, which may be closed by now.
  [[nodiscard]] int original_of(int fd) const {
    const std::string wanted = number_of(fd);
    for (const auto& [open, number] : numbers_) {
      if (!wanted.empty() && number == wanted) return open;
    }
    return fd;
  }
  /// What a listening id has announced goes with it; the ids of the requests stay.
  void move_events(int from, int to, uint32_t id) {
    const auto is_its = [&](const rdma_ucm_event_resp& event) {
      return event.id == id ||
             (event.event == uint32_t(CmEventType::connect_request) && event.uid == ids.at(id).uid);
    };
    auto& queue = events_[from];
    for (const rdma_ucm_event_resp& event : queue) {
      if (is_its(event)) push(to, event);
    }
    std::erase_if(queue, is_its);
    eventfd_t count = 0;
    if (queue.empty()) eventfd_read(from, &count);
  }

  uint32_t last_id_ = 100;
  std::map<int, std::deque<rdma_ucm_event_resp>> events_;
  std::map<int, std::string> numbers_;  // of the files that were opened last under these descriptors
};

}  // namespace smbdirect::daemon::fake
