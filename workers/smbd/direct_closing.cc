// SPDX-License-Identifier: MIT
// DirectFiles: what is about to be closed.
#include <algorithm>
#include <set>
#include <utility>

#include "protocol/smb2/ends.h"
#include "workers/smbd/direct_files.h"

namespace smbdirect::workers {

/// A compound may have very many, and the client very many files: one is not looked for in the other.
bool DirectFiles::closing_under_way(std::span<const std::byte> request) {
  if (files_.empty()) return false;
  if (waits_still(request)) return true;
  closes_ = request.data();
  const auto end_file = [this](const std::shared_ptr<DirectFile>& file) {
    if (waits_to_close(file)) waited_.insert(file);
  };
  std::set<uint64_t> sessions;
  std::set<std::pair<uint64_t, uint32_t>> trees;
  smb2::for_each_end(request, [&](const smb2::End& end) {
    // Else whoever knows another connection's session could have its files be smbd's.
    if (!context_.translator.may_close(end.session_id)) return;
    if (end.of == smb2::End::Of::session) {
      sessions.insert(end.session_id);
    } else if (end.of == smb2::End::Of::tree) {
      trees.emplace(end.session_id, end.tree_id);
    } else if (const auto at = files_.find(end.file_id); at != files_.end() && at->second.file != nullptr) {
      // Whoever names another's is told by smbd that there is none.
      if (at->second.file->is_of(end.session_id, end.tree_id)) end_file(at->second.file);
    }
  });
  if (sessions.empty() && trees.empty()) return !waited_.empty();
  for (auto& [id, known] : files_) {
    const auto& file = known.file;
    if (file == nullptr) continue;
    if (sessions.contains(file->session_id) || trees.contains({file->session_id, file->tree_id}))
      end_file(file);
  }
  return !waited_.empty();
}

/// Once it does not, it is read again: it may end what was granted meanwhile.
bool DirectFiles::waits_still(std::span<const std::byte> request) {
  const bool waits = request.data() == closes_ && std::ranges::any_of(waited_, [this](const auto& waited) {
                       const auto file = waited.lock();
                       return file != nullptr && waits_to_close(file);
                     });
  if (!waits) waited_.clear();
  return waits;
}

bool DirectFiles::waits_to_close(const std::shared_ptr<DirectFile>& ending) {
  DirectFile& file = *ending;
  const uint64_t now = context_.transport.now();
  if (file.closing_at_ms == 0) {
    file.closing_at_ms = std::max<uint64_t>(now, 1);
    file.sequence.close();
  }
  if (!file.sequence.under_way()) {
    // A thread that reads it goes on with the descriptor, whose number would be somebody else's file next.
    if (ending.use_count() == 1) file.let_go();
    return false;
  }
  if (now - file.closing_at_ms < kMostClosingMs) return true;
  say("a file is closed while a WRITE of it has not returned from its file system",
      "; if that hangs, mend it: its bytes may come after those of whoever has the file next");
  return false;
}

}  // namespace smbdirect::workers
