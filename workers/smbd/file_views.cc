// SPDX-License-Identifier: MIT
#include "workers/smbd/file_views.h"

#include <algorithm>
#include <limits>
#include <sys/types.h>
#include <utility>

namespace smbdirect::workers {

std::optional<FileViews::View> FileViews::at(int fd, uint64_t offset, uint32_t wanted, Budget& mapped,
                                             FileCloser& closer) {
  const uint64_t number = offset / kWindow;
  Window* window = find(number);
  if (window == nullptr) window = map(fd, number, mapped, closer);
  if (window == nullptr) return std::nullopt;
  window->used = true;
  const auto inside = static_cast<uint32_t>(offset % kWindow);
  return View{.owner = window->memory.share(),
              .bytes = std::span<const std::byte>(window->memory.bytes())
                           .subspan(inside, std::min(wanted, kWindow - inside))};
}

FileViews::Window* FileViews::find(uint64_t number) {
  const auto at = std::ranges::find(windows_, number, &Window::number);
  if (at == windows_.end()) return nullptr;
  std::rotate(at, at + 1, windows_.end());
  return &windows_.back();
}

FileViews::Window* FileViews::map(int fd, uint64_t number, Budget& mapped, FileCloser& closer) {
  constexpr auto kLast = static_cast<uint64_t>(std::numeric_limits<off_t>::max()) / kWindow;
  if (number >= kLast) return nullptr;
  if (windows_.size() == kMost) windows_.erase(windows_.begin());
  SlabRef memory = map_file(fd, number * kWindow, kWindow, mapped, closer);
  if (!memory && !windows_.empty()) {
    windows_.erase(windows_.begin());
    memory = map_file(fd, number * kWindow, kWindow, mapped, closer);
  }
  if (!memory) return nullptr;
  windows_.push_back({.number = number, .memory = std::move(memory), .used = true});
  return &windows_.back();
}

void FileViews::trim() {
  std::erase_if(windows_, [](const Window& window) { return !window.used; });
  for (Window& window : windows_) window.used = false;
}

}  // namespace smbdirect::workers
