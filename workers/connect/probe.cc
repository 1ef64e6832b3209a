// SPDX-License-Identifier: MIT
#include "workers/connect/probe.h"

#include <array>
#include <cstdio>
#include <memory>

#include "shm/base/socket_address.h"
#include "workers/connect/dialer.h"
#include "workers/connect/pools.h"
#include "workers/connect/stats.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect {

namespace {

std::string row(const char* what, const std::string& value) {
  std::string line = std::string("  ") + what;
  line.resize(34, ' ');
  return line + value + "\n";
}

std::string milliseconds(uint64_t nanoseconds) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.2f ms", static_cast<double>(nanoseconds) / 1e6);
  return text.data();
}

class Prober final : private Transport::Owner {
 public:
  Prober(uv_loop_t& loop, const Options& options)
      : loop_(loop),
        options_(options),
        pools_(options.limits.max_receive_size),
        dialer_(loop, pools_.arena, options.target()),
        budget_(UINT64_MAX) {}

  shm::Result<std::string> run() {
    for (const sockaddr_storage& address : dialer_.addresses()) {
      try_address(address);
      if (!agreed_.empty()) return agreed_;
      failures_ += (failures_.empty() ? "" : "; ") + shm::address_text(address) + ": " + failure_;
    }
    return shm::fail("no SMB Direct with " + failures_ + "\n" + advice());
  }

 private:
  void try_address(const sockaddr_storage& address) {
    began_ = uv_hrtime();
    closed_ = false;
    to_ = shm::address_text(address);
    transport_ = std::make_unique<Transport>(loop_,
                                             Transport::Config{.role = smb_direct::Role::active,
                                                               .limits = options_.limits,
                                                               .receive_pool = pools_.receive,
                                                               .header_pool = pools_.header,
                                                               .budget = budget_},
                                             static_cast<Transport::Owner&>(*this));
    const auto started = dialer_.start(*transport_, address);
    if (!started) failure_ = started.error().text();
    while (started && !closed_) uv_run(&loop_, UV_RUN_ONCE);
  }

  void on_negotiated() override {
    const auto& agreed = transport_->engine().agreed();
    const auto credits = transport_->engine().credits();
    const auto& fabric = transport_->endpoint()->attributes();
    agreed_ = "SMB Direct with " + to_ + " works.\n" + row("fabric", fabric_row(options_.fabric).meaning) +
              row("connection", std::string(transport_->endpoint()->description())) +
              row("set up within", milliseconds(uv_hrtime() - began_)) +
              (options_.fabric == FabricKind::iwarp ? row("CRC32C", fabric.crc ? "on" : "off") : "") +
              row("memory is revoked by", fabric.can_be_invalidated ? "the server" : "this program") +
              row("most RDMA READs in flight", std::to_string(fabric.max_outbound_reads)) +
              row("largest message sent", std::to_string(agreed.max_send_size) + " bytes") +
              row("largest message received", std::to_string(agreed.max_receive_size) + " bytes") +
              row("largest request in fragments", bytes_text(agreed.max_fragmented_send_size)) +
              row("largest READ or WRITE by RDMA", bytes_text(agreed.max_read_write_size)) +
              row("messages that may be sent now", std::to_string(credits.send)) +
              row("messages the server may send", std::to_string(credits.receive_target));
    transport_->disconnect("probed");
  }
  void on_fragment(Fragment /*fragment*/) override {}
  void on_read_done(uint64_t /*cookie*/) override {}
  void on_invalidated(uint32_t /*token*/) override {}
  void on_progress() override {}
  void on_closed(const std::string& why, bool /*clean*/) override {
    failure_ = why;
    closed_ = true;
  }

  [[nodiscard]] std::string advice() const {
    const std::string listener = std::string(fabric_row(options_.fabric).name) + " listener";
    if (failures_.find("refused") != std::string::npos) {
      return "Is smbdirectd running there, and does it have the " + listener + " for this address and port?";
    }
    if (failures_.find("RDMA device") != std::string::npos) {
      return "Is there an RDMA device for this address (\"rdma link\" lists them)? Without one --fabric "
             "iwarp "
             "works, if the server has an iwarp listener.";
    }
    return "Check that the address is right, that smbdirectd has the " + listener +
           " there, that a firewall lets the port through, and what smbdirectd's log says.";
  }

  uv_loop_t& loop_;
  const Options& options_;
  Pools pools_;
  Dialer dialer_;
  Budget budget_;
  uint64_t began_ = 0;
  bool closed_ = false;
  std::string agreed_;
  std::string to_;
  std::string failure_;   // of the address tried last
  std::string failures_;  // of all
  std::unique_ptr<Transport> transport_;
};

}  // namespace

shm::Result<std::string> probe(uv_loop_t& loop, const Options& options) {
  return Prober(loop, options).run();
}

}  // namespace smbdirect::workers::connect
