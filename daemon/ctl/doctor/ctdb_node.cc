// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/ctdb_node.h"

#include <algorithm>

#include "daemon/ctl/doctor/smb_conf.h"
#include "shm/base/number.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr std::string_view kScriptEnding = ".script";
constexpr const char* kPerIpRouting = "13.per_ip_routing";

/// "10.0.0.31/24 eth2,eth3" on each line.
std::vector<shm::Host> read_addresses(const std::string& text) {
  std::vector<shm::Host> found;
  for (const std::string& line : words_of(text, "\n")) {
    const auto words = words_of(line, " \t");
    if (words.empty() || words.front().starts_with('#')) continue;
    const std::string& first = words.front();
    if (const auto address = shm::address_from_text(first.substr(0, first.find('/')), 0))
      found.push_back(shm::host_of(*address));
  }
  return found;
}

/// NAME=VALUE of a file that a shell reads: the last one, without quotes.
std::string assigned(const std::string& text, const std::string& name) {
  std::string value;
  for (const std::string& line : words_of(text, "\n")) {
    std::string_view words = trimmed(line);
    if (words.starts_with("export ")) words = trimmed(words.substr(7));
    if (!words.starts_with(name + "=")) continue;
    value = words.substr(name.size() + 1, words.find(" #") - name.size() - 1);
    std::erase_if(value, [](char c) { return c == '"' || c == '\''; });
  }
  return value;
}

}  // namespace

CtdbNode CtdbNode::read(Host& host) {
  CtdbNode node;
  node.public_addresses = read_addresses(host.read("/etc/ctdb/public_addresses").value_or(""));
  for (const std::string& name : host.list(kCtdbScripts)) {
    // A link to a script that is gone, or that may not be executed, is none.
    const std::string path = std::string(kCtdbScripts) + "/" + name;
    if (name.ends_with(kScriptEnding) && host.kind(path) == Host::FileKind::program)
      node.scripts.push_back(name.substr(0, name.size() - kScriptEnding.size()));
  }
  if (std::ranges::find(node.scripts, kPerIpRouting) != node.scripts.end()) {
    std::string options = host.read("/etc/ctdb/script.options").value_or("");
    options +=
        "\n" + host.read(std::string(kCtdbScripts) + "/" + kPerIpRouting + ".options").value_or("") + "\n";
    if (!assigned(options, "CTDB_PER_IP_ROUTING_CONF").empty())
      node.rule_priority =
          shm::number_from_text<uint32_t>(assigned(options, "CTDB_PER_IP_ROUTING_RULE_PREF"));
  }
  return node;
}

bool CtdbNode::moves(const shm::Host& address) const {
  return std::ranges::find(public_addresses, address) != public_addresses.end();
}

}  // namespace smbdirect::daemon::doctor
