#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace switchyard {

// A whole file, mapped read-only. The bytes live as long as the object; share it to keep them alive. Thread-safe.
// The file must not be truncated by someone else while it is mapped (the kernel would raise SIGBUS); files of ours
// are replaced by rename, which leaves an existing mapping intact.
class MappedFile {
 public:
  // Throws kNotFound or kResource with the path and the system's reason.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  // `part` of bytes() will not be read soon: the memory of the pages that lie within it is given back. They are read
  // from the file again if need be. A hint: whether it was taken shows nowhere.
  void release(std::span<const std::byte> part) const;

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace switchyard
