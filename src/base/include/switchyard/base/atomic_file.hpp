#pragma once
// Files that are whole or absent: written to a temporary name beside the target, synced, renamed.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace switchyard {

// One file. Until commit() the target is untouched; the destructor of an uncommitted file removes the temporary.
// Throws kResource (disk full, read-only folder, ...) with the path and the system's reason. Not thread-safe.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();  // fsync, rename over the target, fsync the folder

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
};

// Writes a whole text file through AtomicFile.
void write_file_atomically(const std::filesystem::path& target, std::string_view text);

// A whole folder. Fill path() with files, then commit(): every file and the folder are synced, and the folder is
// renamed to the target. An existing target is replaced: it is set aside first and removed after the rename, and
// `recover` puts it back should a crash fall between the two.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::filesystem::path target);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  const std::filesystem::path& path() const { return temporary_; }
  void commit();

  // Repairs what a crash during commit() may have left for `target`: restores a folder that was set aside and
  // removes temporaries. Safe to call at any time when nobody writes the target.
  static void recover(const std::filesystem::path& target);

 private:
  std::filesystem::path target_, temporary_;
  bool committed_ = false;
};

// Reads a whole small file. Throws kNotFound / kResource; kBadInput if it is larger than `limit` bytes.
std::string read_file(const std::filesystem::path& path, std::size_t limit = std::size_t{1} << 30);

}  // namespace switchyard
