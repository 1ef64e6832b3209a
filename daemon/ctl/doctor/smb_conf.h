// SPDX-License-Identifier: MIT
// smb.conf as Samba's own testparm prints it (only Samba can parse it in full), and what its "interfaces"
// announces to clients. Pure; smbdirectctl only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/ctl/doctor/host.h"

namespace smbdirect::daemon::doctor {

/// One item of "interfaces": "eth2;speed=100000000000,capability=RSS,capability=RDMA".
struct AnnouncedInterface {
  std::string name;  // an interface, a pattern, an address or a network
  bool rdma = false;
  std::optional<uint64_t> speed{};  // bit/s

  /// Does this item stand for the address?
  [[nodiscard]] bool covers(const Host::Address& address) const;
};

class SmbConf {
 public:
  /// The output of "testparm -s -v".
  [[nodiscard]] static SmbConf parse(std::string_view testparm_output);

  /// In [global]; empty where it is not set or unknown to this Samba. Names in small letters.
  [[nodiscard]] std::string global(const std::string& parameter) const;
  [[nodiscard]] bool is_yes(const std::string& parameter) const;
  /// The shares that have one of these values for a parameter.
  [[nodiscard]] std::vector<std::string> shares_with(const std::string& parameter,
                                                     const std::vector<std::string>& values) const;
  [[nodiscard]] std::vector<std::string> shares() const;
  /// A share's own value, else that of [global].
  [[nodiscard]] std::string of_share(const std::string& share, const std::string& parameter) const;
  /// It has a value of its own, which may be empty.
  [[nodiscard]] bool has_own(const std::string& share, const std::string& parameter) const;
  [[nodiscard]] std::vector<std::string> interface_items() const;
  [[nodiscard]] std::vector<AnnouncedInterface> interfaces() const;
  /// TCP ports, from "smb ports" or "server smb transports".
  [[nodiscard]] std::vector<uint16_t> ports() const;

 private:
  using Section = std::map<std::string, std::string>;
  Section global_;
  std::map<std::string, Section> shares_;
};

/// Without regard to case.
[[nodiscard]] bool same_word(std::string_view a, std::string_view b);
[[nodiscard]] bool is_one_of(std::string_view word, const std::vector<std::string>& words);
[[nodiscard]] std::string_view trimmed(std::string_view text);
/// What stands between white space and commas.
[[nodiscard]] std::vector<std::string> words_of(std::string_view text,
                                                std::string_view separators = " \t\n,");

}  // namespace smbdirect::daemon::doctor
