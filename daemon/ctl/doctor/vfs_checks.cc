// SPDX-License-Identifier: MIT
// vfs_smbdirect, where smb.conf has it: its files, its place among other modules, and whether it and the
// daemon look for each other in the same directory.
#include <algorithm>

#include "daemon/ctl/doctor/checks.h"
#include "protocol/proxy/smbdirect_area.h"
#include "shm/base/number.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr const char* kObjects = "vfs objects";
constexpr const char* kModule = "smbdirect";
constexpr const char* kReload = "; then \"smbcontrol smbd reload-config\", and clients connect again";

std::string quoted(const std::vector<std::string>& shares) {
  std::string text;
  for (const std::string& share : shares) text += (text.empty() ? "[" : " [") + share + "]";
  return text;
}

/// Without what stands behind a colon, a name of its own for an instance.
std::vector<std::string> modules_in(const std::string& objects) {
  std::vector<std::string> modules = words_of(objects, " \t\n,;");
  for (std::string& module : modules) module.resize(std::min(module.find(':'), module.size()));
  return modules;
}

std::vector<std::string>::const_iterator place(const std::vector<std::string>& modules, const char* name) {
  return std::ranges::find_if(modules, [&](const std::string& one) { return same_word(one, name); });
}

bool has_module(const std::string& objects) {
  const auto modules = modules_in(objects);
  return place(modules, kModule) != modules.end();
}

/// Who has it: "[a] [b]"; empty: nobody.
std::string users(const SmbConf& conf) {
  std::vector<std::string> found;
  for (const std::string& share : conf.shares()) {
    if (has_module(conf.of_share(share, kObjects))) found.push_back(share);
  }
  if (found.empty() && has_module(conf.global(kObjects))) found.emplace_back("global");
  return quoted(found);
}

Finding nobody() { return skipped("no share has smbdirect in its \"vfs objects\""); }

/// "/usr/lib/x86_64-linux-gnu/samba", as smbd was built.
std::string module_directory(const Patient& patient) {
  for (const std::string& program :
       {patient.pool->handoff.smbd, std::string("/usr/sbin/smbd"), std::string("/usr/local/sbin/smbd"),
        std::string("/usr/local/samba/sbin/smbd")}) {
    if (patient.host.kind(program) != Host::FileKind::program) continue;
    const auto output = patient.host.run(program, {"-b"});
    if (!output) continue;
    for (const std::string& line : words_of(output->out, "\n")) {
      constexpr std::string_view kDirectory = "MODULESDIR:";
      const std::string_view text = trimmed(line);
      if (text.starts_with(kDirectory)) return std::string(trimmed(text.substr(kDirectory.size())));
    }
  }
  return "";
}

/// "4.22" of "4.22.6-Debian-4.22.6+dfsg".
std::string series_of(const std::string& version) {
  const size_t minor = version.find('.');
  if (minor == version.npos) return "";
  return version.substr(0, std::min(version.find_first_not_of("0123456789", minor + 1), version.size()));
}

/// vfs_btrfs did, of 4.22 it does not.
bool takes_copies_of_others(const std::string& series) {
  constexpr unsigned kLeavesThem = 22;
  const auto minor =
      shm::number_from_text<unsigned>(std::string_view(series).substr(std::min<size_t>(2, series.size())));
  return !series.starts_with("4.") || !minor || *minor < kLeavesThem;
}

/// The process of an smbd whose program has been replaced since it started; empty: there is none.
std::string outdated_smbd(Host& host) {
  for (const std::string& name : host.list("/proc")) {
    if (name.find_first_not_of("0123456789") != name.npos) continue;
    const auto command = host.read("/proc/" + name + "/comm");
    if (command && trimmed(*command) == "smbd" && host.link("/proc/" + name + "/exe").ends_with(" (deleted)"))
      return name;
  }
  return "";
}

std::string how_to_install(const std::string& directory) {
  return "the package samba-vfs-smbdirect, or from the source of smbdirectd \"scripts/setup module\" and a "
         "build with -Dvfs_module=enabled -Dvfs_directory=" +
         directory;
}

/// What the pool file switches off.
Findings check_vfs_keys(const WorkerConfig& worker, const std::string& shares) {
  const auto off = [&](const std::string& keys, const std::string& so) {
    return Findings{
        warning("smbd has smbdirect on " + shares + ", and what would use it is off in the pool file: " + so,
                "set " + keys + " to true, then \"smbdirectctl reload\"")};
  };
  if (!worker.module_area && !worker.direct)
    return off("/upstream/area/enabled and /upstream/direct/enabled", "nothing goes by it");
  if (!worker.module_area) return off("/upstream/area/enabled", "no memory is shared");
  if (!worker.direct) return off("/upstream/direct/enabled", "smbd does each READ and WRITE itself");
  return {};
}

/// Where the modules listen, and where they are looked for.
Finding check_vfs_directories(const Patient& patient) {
  const std::string& ours = patient.pool->module_directory;
  std::string theirs = patient.smb_conf->global("smbdirect:directory");
  if (theirs.empty()) theirs = SMBDIRECT_LINK_DIRECTORY;
  while (theirs.size() > 1 && theirs.ends_with('/')) theirs.pop_back();
  if (ours != theirs) {
    return warning("smbd's modules listen in " + theirs + " (smbdirect:directory of " +
                       patient.smb_conf_name() + "), and the daemon looks for them in " + ours +
                       " (/upstream/area/directory): no memory is shared",
                   "set both to the same; then \"smbcontrol smbd reload-config\" or \"smbdirectctl "
                   "upgrade\", and clients connect again");
  }
  if (!patient.host.kind(ours)) {
    if (!patient.daemon) return ok(ours + " is made when the daemon starts");
    return warning(ours + ", where smbd's modules listen, is not there: no memory is shared",
                   "\"install -d -m 0700 " + ours + "\" as root; clients that connect again use it");
  }
  if (const auto safe = patient.host.is_ours_alone(ours); !safe) {
    return warning(safe.error().text() + ": smbd's modules do not listen there, and no memory is shared",
                   "\"chown root: " + ours + "; chmod 0700 " + ours + "\"");
  }
  return ok("smbd's modules listen in " + ours);
}

}  // namespace

Findings check_vfs_module(const Patient& patient) {
  const std::string shares = users(*patient.smb_conf);
  if (shares.empty()) return {nobody()};
  const std::string directory = module_directory(patient);
  if (directory.empty()) return {skipped("no smbd says where its modules are (\"smbd -b\")")};
  const std::string file = directory + "/vfs/" + kModule + ".so";
  if (!patient.host.kind(file)) {
    return {failed("\"vfs objects\" of " + shares + " has smbdirect, and there is no " + file +
                       ": smbd lets nobody connect to such a share",
                   "install " + how_to_install(directory) + "; or take smbdirect out of " +
                       patient.smb_conf_name() + kReload)};
  }
  const std::string series = series_of(patient.samba_version());
  if (series.empty()) return {skipped("the series of this Samba is not known")};
  const std::string build = directory + "/" + kModule + "/" + kModule + "-" + series + ".so";
  if (!patient.host.kind(build)) {
    return {warning("there is no build of vfs_smbdirect for Samba " + series + " (" + build + "): " + shares +
                        " is served as without it",
                    "install it: " + how_to_install(directory) + "; clients that connect again use it")};
  }
  if (const std::string pid = outdated_smbd(patient.host); !pid.empty()) {
    return {warning("smbd (pid " + pid + ") runs since before Samba was upgraded to " + series +
                        ": its processes look for the build of the series that it had",
                    "\"systemctl restart smbd\"")};
  }
  return {ok("smbd has vfs_smbdirect for Samba " + series + " on " + shares)};
}

Findings check_vfs_objects(const Patient& patient) {
  const SmbConf& conf = *patient.smb_conf;
  if (users(conf).empty()) return {nobody()};
  Findings found;
  std::vector<std::string> without, behind;
  const bool btrfs_takes = takes_copies_of_others(series_of(patient.samba_version()));
  for (const std::string& share : conf.shares()) {
    const std::vector<std::string> modules = modules_in(conf.of_share(share, kObjects));
    const auto own = place(modules, kModule);
    if (own == modules.end()) {
      if (conf.has_own(share, kObjects) && !same_word(conf.of_share(share, "printable"), "yes"))
        without.push_back(share);
    } else if (btrfs_takes && place(modules, "btrfs") < own) {
      behind.push_back(share);
    }
  }
  if (!behind.empty()) {
    found.push_back(warning("\"vfs objects\" of " + quoted(behind) +
                                " has btrfs before smbdirect, and btrfs takes server-side copies for "
                                "its own: served as without smbdirect",
                            "put smbdirect before btrfs there" + std::string(kReload)));
  }
  if (!without.empty() && has_module(conf.global(kObjects))) {
    found.push_back(warning("[global] has smbdirect in \"vfs objects\", and " + quoted(without) +
                                " a list without it, which replaces that of [global]: served as without "
                                "smbdirect",
                            "add smbdirect to \"vfs objects\" there, before btrfs" + std::string(kReload)));
  }
  if (found.empty()) found.push_back(ok("smbdirect is in \"vfs objects\" of " + users(conf)));
  return found;
}

Findings check_vfs_directory(const Patient& patient) {
  const std::string shares = users(*patient.smb_conf);
  if (shares.empty()) return {nobody()};
  const WorkerConfig& worker = patient.pool->worker;
  Findings found = check_vfs_keys(worker, shares);
  if (worker.module_area || worker.direct) found.push_back(check_vfs_directories(patient));
  return found;
}

}  // namespace smbdirect::daemon::doctor
