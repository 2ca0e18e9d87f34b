#include "switchyard/base/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/mapped_file.hpp"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_system(const fs::path& path, std::string_view action) {
  fail(ErrorKind::kResource, "{}: cannot {}: {}", path.string(), action, std::strerror(errno));
}

fs::path with_suffix(const fs::path& target, std::string_view suffix) {
  fs::path result = target;
  result += suffix;
  return result;
}

void sync_path(const fs::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC);
  if (descriptor < 0) fail_system(path, "open to sync");
  const int result = ::fsync(descriptor);
  const int saved = errno;
  ::close(descriptor);
  // Some filesystems cannot sync a directory and say EINVAL; there is nothing more to be done there.
  if (result != 0 && saved != EINVAL) {
    errno = saved;
    fail_system(path, "sync");
  }
}

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

// A trailing slash would make the temporary a child of the target.
fs::path without_slash(fs::path path) { return path.has_filename() ? path : path.parent_path(); }

void rename_path(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_system(to, "rename into place");
}

}  // namespace

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)) {
  temporary_ = with_suffix(target_, ".tmp-" + std::to_string(::getpid()));
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail_system(target_, "write");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail_system(target_, "write");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_system(target_, "sync");
  if (::close(descriptor_) != 0) {
    descriptor_ = -1;
    ::unlink(temporary_.c_str());
    fail_system(target_, "close");
  }
  descriptor_ = -1;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int saved = errno;
    ::unlink(temporary_.c_str());
    errno = saved;
    fail_system(target_, "rename into place");
  }
  sync_path(parent_of(target_), O_RDONLY | O_DIRECTORY);
}

void write_file_atomically(const fs::path& target, std::string_view text) {
  AtomicFile file(target);
  file.write(text);
  file.commit();
}

AtomicDirectory::AtomicDirectory(fs::path target) : target_(without_slash(std::move(target))) {
  recover(target_);
  temporary_ = with_suffix(target_, ".tmp");
  if (::mkdir(temporary_.c_str(), 0755) != 0) fail_system(target_, "write");
}

AtomicDirectory::~AtomicDirectory() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void AtomicDirectory::commit() {
  std::error_code error;
  fs::recursive_directory_iterator entry(temporary_, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    sync_path(entry->path(), entry->is_directory(error) ? O_RDONLY | O_DIRECTORY : O_RDONLY);
  }
  if (error) fail(ErrorKind::kResource, "{}: cannot read: {}", temporary_.string(), error.message());
  sync_path(temporary_, O_RDONLY | O_DIRECTORY);
  const fs::path aside = with_suffix(target_, ".old");
  const bool replaces = fs::exists(target_, error);
  if (replaces) rename_path(target_, aside);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int saved = errno;
    if (replaces) ::rename(aside.c_str(), target_.c_str());  // where this fails too, recover() is left to do it
    errno = saved;
    fail_system(target_, "rename into place");
  }
  committed_ = true;
  sync_path(parent_of(target_), O_RDONLY | O_DIRECTORY);
  if (replaces)
    fs::remove_all(aside, error);  // the new folder is in place; a leftover is removed by the next recover()
}

void AtomicDirectory::recover(const fs::path& target_with_slash) {
  const fs::path target = without_slash(target_with_slash);
  const fs::path aside = with_suffix(target, ".old");
  std::error_code ignored;
  if (!fs::exists(target, ignored) && fs::exists(aside, ignored)) rename_path(aside, target);
  fs::remove_all(aside, ignored);
  fs::remove_all(with_suffix(target, ".tmp"), ignored);
}

std::string read_file(const fs::path& path, std::size_t limit) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  if (bytes.size() > limit) {
    fail(ErrorKind::kBadInput, "{}: {} bytes, expected at most {}", path.string(), bytes.size(), limit);
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace switchyard
