// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/patient.h"

#include <algorithm>
#include <cerrno>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "daemon/ctl/commands.h"

namespace smbdirect::daemon::doctor {
namespace {

using json = nlohmann::json;

shm::Result<PoolConfig> read_pool(Host& host, const std::string& path) {
  const auto text = host.read(path);
  if (!text) return std::unexpected(text.error());
  auto config = parse_pool(*text);
  if (config) return std::move(*config);
  std::string problems;
  for (const Problem& problem : config.error())
    problems += (problems.empty() ? "" : "\n") + problem_text(path, problem);
  return shm::fail(problems);
}

template <class Value>
Value member(const json& object, const char* name, Value otherwise) {
  const auto found = object.find(name);
  if (found == object.end()) return otherwise;
  if constexpr (std::is_same_v<Value, std::string>) {
    return found->is_string() ? found->template get<Value>() : otherwise;
  } else {
    return found->is_number_unsigned() ? found->template get<Value>() : otherwise;
  }
}

shm::Result<DaemonStatus> read_status(Host& host, const std::string& socket) {
  const auto answer = host.ask(socket);
  if (!answer) return std::unexpected(answer.error());
  const json parsed = json::parse(*answer, nullptr, false);
  if (!parsed.is_object()) return shm::fail("'" + socket + "': the answer is not JSON");
  if (parsed.contains("error"))
    return shm::fail(member<std::string>(parsed, "error", "it refuses to answer"));
  const auto status = parsed.find("status");
  if (status == parsed.end() || !status->is_object())
    return shm::fail("'" + socket + "': the answer has no \"status\"; is the daemon of another release?");
  return DaemonStatus{.version = member<std::string>(*status, "version", "?"),
                      .pid = member<pid_t>(*status, "pid", 0),
                      .phase = member<std::string>(*status, "phase", "?"),
                      .upstream = member<std::string>(*status, "upstream", "?"),
                      .listeners = member<std::string>(*status, "listeners", ""),
                      .workers = member<uint32_t>(*status, "workers", 0),
                      .workers_ready = member<uint32_t>(*status, "workers_ready", 0),
                      .has_server = member<pid_t>(*status, "main_process", 0) != 0};
}

std::string find_testparm(Host& host, const shm::Result<PoolConfig>& pool) {
  std::vector<std::string> paths;
  if (pool) paths.push_back(pool->handoff.testparm);
  for (const char* directory : {"/usr/bin", "/usr/local/bin", "/usr/local/samba/bin", "/bin"})
    paths.push_back(std::string(directory) + "/testparm");
  for (const std::string& path : paths) {
    if (host.kind(path) == Host::FileKind::program) return path;
  }
  return "";
}

std::string last_line(std::string_view text) {
  const std::string_view words = trimmed(text);
  return std::string(words.substr(words.rfind('\n') == words.npos ? 0 : words.rfind('\n') + 1));
}

shm::Result<SmbConf> read_smb_conf(const Patient& patient) {
  if (patient.testparm.empty()) return shm::fail("there is no testparm, which belongs to Samba");
  const auto output = patient.host.run(patient.testparm, patient.testparm_arguments({"-v"}));
  if (!output) return std::unexpected(output.error());
  if (!WIFEXITED(output->wait_status) || WEXITSTATUS(output->wait_status) != 0) {
    return shm::fail("'" + patient.testparm + "' does not accept " + patient.smb_conf_name() + ": " +
                     last_line(output->err));
  }
  return SmbConf::parse(output->out);
}

PoolListener listener_of(const ListenerConfig& config, const std::vector<Host::Address>& addresses) {
  PoolListener listener{.config = config};
  if (const auto address = shm::address_from_text(config.address, config.port))
    listener.host = shm::host_of(*address);
  const auto own = std::ranges::find(addresses, listener.host, &Host::Address::host);
  if (own != addresses.end()) {
    listener.address = *own;
  } else if (shm::is_loopback(listener.host)) {
    listener.address = {.host = listener.host, .interface = "lo"};  // all of 127.0.0.0/8
  }
  return listener;
}

}  // namespace

Patient Patient::meet(Host& host, const DoctorOptions& wanted) {
  Patient patient{.host = host,
                  .wanted = wanted,
                  .pool = read_pool(host, wanted.config_file),
                  .socket = wanted.socket,
                  .addresses = host.addresses(),
                  .rdma = rdma_ports(host),
                  .tcp = tcp_listeners(host)};
  if (patient.pool) {
    for (const ListenerConfig& config : patient.pool->listeners)
      patient.listeners.push_back(listener_of(config, patient.addresses));
    if (patient.socket.empty())
      patient.socket = patient.pool->run_directory + "/" + std::string(kControlSocket);
    const WorkerConfig& worker = patient.pool->worker;
    if (patient.pool->upstream_mode == UpstreamMode::connect && !worker.upstream_address.empty()) {
      const auto listener = listener_of({.address = worker.upstream_address}, patient.addresses);
      if (!listener.address) patient.smbd_elsewhere = worker.upstream_address;
    }
  }
  if (patient.socket.empty()) patient.socket = PoolConfig{}.run_directory + "/" + std::string(kControlSocket);
  patient.daemon = read_status(host, patient.socket);
  patient.testparm = find_testparm(host, patient.pool);
  patient.smb_conf = read_smb_conf(patient);
  return patient;
}

bool Patient::has_verbs() const { return std::ranges::any_of(listeners, &PoolListener::verbs); }

bool Patient::serves_smbd() const { return pool && pool->upstream_mode != UpstreamMode::native; }

bool Patient::all_on_loopback() const {
  return std::ranges::all_of(listeners, [](const PoolListener& one) { return shm::is_loopback(one.host); });
}

std::string Patient::smb_conf_name() const {
  return pool && !pool->handoff.configfile.empty() ? pool->handoff.configfile : "smb.conf";
}

std::vector<std::string> Patient::testparm_arguments(std::vector<std::string> more) const {
  more.insert(more.begin(), "-s");
  if (pool && !pool->handoff.configfile.empty()) more.push_back(pool->handoff.configfile);
  return more;
}

/// "Version 4.17.12-Debian", of the first line.
std::string Patient::samba_version() const {
  if (testparm.empty()) return "";
  const auto output = host.run(testparm, {"--version"});
  if (!output) return "";
  std::string_view line = std::string_view(output->out).substr(0, output->out.find('\n'));
  if (line.starts_with("Version ")) line.remove_prefix(8);
  return std::string(trimmed(line));
}

std::vector<sockaddr_storage> Patient::smbd_addresses() const {
  std::vector<sockaddr_storage> found;
  std::vector<std::string> texts;
  if (!pool) return found;
  for (const PoolListener& listener : listeners) {
    std::string name = pool->worker.upstream_address;
    if (name.empty() && listener.everywhere()) name = shm::is_ipv4(listener.host) ? "127.0.0.1" : "::1";
    if (name.empty()) name = listener.config.address;
    const auto address = shm::address_from_text(name, pool->worker.upstream_port);
    if (!address || std::ranges::find(texts, name) != texts.end()) continue;
    texts.push_back(name);
    found.push_back(*address);
  }
  return found;
}

}  // namespace smbdirect::daemon::doctor
