// SPDX-License-Identifier: MIT
// A client that does not behave, on an RDMA device through librdmacm's blocking calls; shares no code with
// ours.
//     hostile ADDRESS PORT MODE
//   silent     connects and sends nothing, until the server ends it
//   malformed  a negotiate request with MinVersion and MaxVersion that nobody speaks
//   short      19 bytes where a negotiate request has 20
//   oversized  a first message larger than the 512 bytes a server must expect
//   token      negotiates, asks for a WRITE from memory that is not registered, and waits to be killed
//   vanish     negotiates, says so, and waits to be killed
//   private    negotiates, with private data in the connection request that means nothing
// Prints what happened: "refused", "ended", "answered STATUS". Exit 0 when the server ended the connection,
// or answered.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <unistd.h>

#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>

namespace {

constexpr size_t kReceive = 8192;
constexpr size_t kReceives = 16;

struct Client {
  rdma_cm_id* id = nullptr;
  ibv_mr* memory = nullptr;
  std::array<uint8_t, 65536 + kReceives * kReceive> bytes{};
  size_t next_receive = 0;

  bool open(char* address, char* port, std::string_view mode) {
    rdma_addrinfo hints{};
    hints.ai_port_space = RDMA_PS_TCP;
    rdma_addrinfo* found = nullptr;
    if (rdma_getaddrinfo(address, port, &hints, &found) != 0) return false;
    ibv_qp_init_attr queues{};
    queues.cap = {.max_send_wr = 16,
                  .max_recv_wr = kReceives,
                  .max_send_sge = 1,
                  .max_recv_sge = 1,
                  .max_inline_data = 0};
    queues.sq_sig_all = 1;
    if (rdma_create_ep(&id, found, nullptr, &queues) != 0) return false;
    rdma_freeaddrinfo(found);
    memory = rdma_reg_msgs(id, bytes.data(), bytes.size());
    for (size_t i = 0; i < kReceives; ++i) {
      if (rdma_post_recv(id, nullptr, &bytes[65536 + i * kReceive], kReceive, memory) != 0) return false;
    }
    rdma_conn_param wanted{};
    wanted.responder_resources = 1;
    wanted.retry_count = 6;
    std::array<uint8_t, 40> junk;
    junk.fill(0xFF);
    if (mode == "private") {
      wanted.private_data = junk.data();
      wanted.private_data_len = uint8_t(junk.size());
    }
    return rdma_connect(id, &wanted) == 0;
  }

  bool send(size_t length) {
    if (rdma_post_send(id, nullptr, bytes.data(), length, memory, 0) != 0) return false;
    ibv_wc done{};
    return rdma_get_send_comp(id, &done) >= 0 && done.status == IBV_WC_SUCCESS;
  }
  /// The next message, or null: the server has ended the connection.
  const uint8_t* receive() {
    ibv_wc done{};
    if (rdma_get_recv_comp(id, &done) < 0 || done.status != IBV_WC_SUCCESS) return nullptr;
    return &bytes[65536 + (next_receive++) * kReceive];
  }
};

void put(uint8_t* at, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) at[i] = uint8_t(value >> (8 * i));
}

size_t negotiate_request(uint8_t* at, uint16_t version) {
  std::fill_n(at, 20, uint8_t(0));
  put(at, version, 2);
  put(at + 2, version, 2);
  put(at + 6, 10, 2);        // CreditsRequested
  put(at + 8, 1364, 4);      // PreferredSendSize
  put(at + 12, 8192, 4);     // MaxReceiveSize
  put(at + 16, 1048576, 4);  // MaxFragmentedSize
  return 20;
}

/// A data message around an SMB2 message (MS-SMBD 2.2.3).
uint8_t* data_message(uint8_t* at, size_t length) {
  std::fill_n(at, 24 + length, uint8_t(0));
  put(at, 10, 2);
  put(at + 2, 10, 2);
  put(at + 12, 24, 4);
  put(at + 16, length, 4);
  uint8_t* smb = at + 24;
  std::memcpy(smb, "\xFESMB", 4);
  put(smb + 4, 64, 2);
  return smb;
}

bool smb2_negotiate(Client& client) {
  uint8_t* smb = data_message(client.bytes.data(), 64 + 36 + 2);
  put(smb + 14, 31, 2);
  put(smb + 64, 36, 2);
  put(smb + 66, 1, 2);
  put(smb + 68, 1, 2);
  std::memcpy(smb + 76, "a hostile client", 16);
  put(smb + 100, 0x0300, 2);
  return client.send(24 + 64 + 36 + 2) && client.receive() != nullptr;
}

bool rdma_channel_write(Client& client) {
  constexpr size_t kLength = 64 + 48 + 16;
  uint8_t* smb = data_message(client.bytes.data(), kLength);
  put(smb + 12, 9, 2);
  put(smb + 14, 1, 2);
  put(smb + 24, 1, 8);
  put(smb + 64, 49, 2);
  put(smb + 96, 1, 4);      // Channel: RDMA_V1
  put(smb + 100, 4096, 4);  // RemainingBytes
  put(smb + 104, 112, 2);
  put(smb + 106, 16, 2);
  put(smb + 112, 0x1000, 8);
  put(smb + 120, 0xDEADBEEF, 4);
  put(smb + 124, 4096, 4);
  return client.send(24 + kLength);
}

int wait_for_the_end(Client& client) {
  while (client.receive() != nullptr) {
  }
  std::puts("ended");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::string_view mode = argv[3];
  static Client client;
  if (!client.open(argv[1], argv[2], mode)) {
    std::printf("refused: %s\n", std::strerror(errno));
    return 1;
  }
  if (mode == "silent") return wait_for_the_end(client);
  size_t length = negotiate_request(client.bytes.data(), mode == "malformed" ? 0x7777 : 0x0100);
  if (mode == "short") length = 19;
  if (mode == "oversized") length = 60'000;
  (void)client.send(length);
  const uint8_t* answer = client.receive();
  if (mode == "short" || mode == "oversized") return answer == nullptr ? wait_for_the_end(client) : 1;
  if (answer == nullptr) return 1;
  std::printf("answered %02x%02x%02x%02x\n", answer[15], answer[14], answer[13], answer[12]);
  std::fflush(stdout);
  if (mode == "malformed") return wait_for_the_end(client);
  if (mode == "private") return 0;
  if (!smb2_negotiate(client)) return 1;
  std::puts("negotiated");
  std::fflush(stdout);
  if (mode == "token") {
    // siw does not tell this side that the connection is over: whoever started us looks at the server.
    (void)rdma_channel_write(client);
    std::puts("asked");
    std::fflush(stdout);
  }
  pause();
}
