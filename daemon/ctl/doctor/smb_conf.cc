// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/smb_conf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <fnmatch.h>

#include "shm/base/number.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr unsigned kIpv4Prefix = 96;  // of an IPv4 address in its mapped form

std::string small(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = char(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool same_network(const shm::Host& a, const shm::Host& b, unsigned bits) {
  for (unsigned i = 0; i < bits && i < 8 * a.size(); ++i) {
    const auto mask = uint8_t(0x80u >> (i % 8));
    if (((a[i / 8] ^ b[i / 8]) & mask) != 0) return false;
  }
  return true;
}

/// "24" or "255.255.255.0", counted in the mapped form.
std::optional<unsigned> prefix_bits(std::string_view text, bool ipv4) {
  if (const auto mask = shm::address_from_text(text, 0); mask && ipv4) {
    unsigned bits = kIpv4Prefix;
    const shm::Host host = shm::host_of(*mask);
    for (size_t i = 12; i < host.size(); ++i) bits += unsigned(std::popcount(host[i]));
    return bits;
  }
  const auto bits = shm::number_from_text<unsigned>(text);
  return bits ? std::optional(*bits + (ipv4 ? kIpv4Prefix : 0)) : std::nullopt;
}

}  // namespace

bool same_word(std::string_view a, std::string_view b) { return small(a) == small(b); }

bool is_one_of(std::string_view word, const std::vector<std::string>& words) {
  return std::ranges::any_of(words, [&](const std::string& one) { return same_word(one, word); });
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string> words_of(std::string_view text, std::string_view separators) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of(separators), text.size());
    if (end > 0) words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

bool AnnouncedInterface::covers(const Host::Address& address) const {
  const size_t slash = name.find('/');
  const auto own = shm::address_from_text(name.substr(0, slash), 0);
  if (!own) return fnmatch(name.c_str(), address.interface.c_str(), 0) == 0;
  const shm::Host host = shm::host_of(*own);
  if (host == address.host) return true;
  if (slash == name.npos || shm::is_ipv4(host) != shm::is_ipv4(address.host)) return false;
  const auto bits = prefix_bits(std::string_view(name).substr(slash + 1), shm::is_ipv4(host));
  return bits && same_network(host, address.host, *bits);
}

SmbConf SmbConf::parse(std::string_view output) {
  SmbConf conf;
  Section* section = &conf.global_;
  while (!output.empty()) {
    const size_t end = std::min(output.find('\n'), output.size());
    const std::string_view line = trimmed(output.substr(0, end));
    output.remove_prefix(std::min(end + 1, output.size()));
    if (line.starts_with('#')) continue;
    if (line.starts_with('[') && line.ends_with(']')) {
      const std::string name(line.substr(1, line.size() - 2));
      section = same_word(name, "global") ? &conf.global_ : &conf.shares_[name];
      continue;
    }
    const size_t equals = line.find('=');
    if (equals == line.npos) continue;
    (*section)[small(trimmed(line.substr(0, equals)))] = trimmed(line.substr(equals + 1));
  }
  return conf;
}

std::string SmbConf::global(const std::string& parameter) const {
  const auto found = global_.find(parameter);
  return found == global_.end() ? "" : found->second;
}

bool SmbConf::is_yes(const std::string& parameter) const {
  return is_one_of(global(parameter), {"yes", "true", "1", "on"});
}

std::vector<std::string> SmbConf::shares_with(const std::string& parameter,
                                              const std::vector<std::string>& values) const {
  std::vector<std::string> names;
  for (const auto& [name, section] : shares_) {
    const auto found = section.find(parameter);
    if (found != section.end() && is_one_of(found->second, values)) names.push_back(name);
  }
  return names;
}

std::vector<std::string> SmbConf::shares() const {
  std::vector<std::string> names;
  for (const auto& [name, section] : shares_) names.push_back(name);
  return names;
}

std::string SmbConf::of_share(const std::string& share, const std::string& parameter) const {
  return has_own(share, parameter) ? shares_.at(share).at(parameter) : global(parameter);
}

bool SmbConf::has_own(const std::string& share, const std::string& parameter) const {
  const auto section = shares_.find(share);
  return section != shares_.end() && section->second.contains(parameter);
}

std::vector<std::string> SmbConf::interface_items() const {
  std::vector<std::string> items = words_of(global("interfaces"), " \t");
  for (std::string& item : items) std::erase(item, '"');
  return items;
}

std::vector<AnnouncedInterface> SmbConf::interfaces() const {
  std::vector<AnnouncedInterface> out;
  for (const std::string& item : interface_items()) {
    const size_t semicolon = std::min(item.find(';'), item.size());
    AnnouncedInterface& one = out.emplace_back(AnnouncedInterface{.name = item.substr(0, semicolon)});
    for (const std::string& word : words_of(std::string_view(item).substr(semicolon), ";,")) {
      const size_t equals = std::min(word.find('='), word.size());
      const std::string key = word.substr(0, equals);
      const std::string value = equals < word.size() ? word.substr(equals + 1) : "";
      if (same_word(key, "capability") && same_word(value, "RDMA")) one.rdma = true;
      if (same_word(key, "speed")) one.speed = shm::number_from_text<uint64_t>(value);
    }
  }
  return out;
}

std::vector<uint16_t> SmbConf::ports() const {
  std::vector<uint16_t> ports;
  const std::string transports = global("server smb transports");
  for (const std::string& word : words_of(transports.empty() ? global("smb ports") : transports)) {
    // "445", "tcp", "nbt", and with a port of their own "tcp:4450".
    const size_t colon = word.find(':');
    if (const auto port =
            shm::number_from_text<uint16_t>(colon == word.npos ? word : word.substr(colon + 1))) {
      ports.push_back(*port);
    } else if (same_word(word, "tcp")) {
      ports.push_back(445);
    } else if (same_word(word, "nbt")) {
      ports.push_back(139);
    }
  }
  return ports;
}

}  // namespace smbdirect::daemon::doctor
