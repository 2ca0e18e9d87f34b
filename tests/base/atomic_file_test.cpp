#include "switchyard/base/atomic_file.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/mapped_file.hpp"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Files : public ::testing::Test {
 protected:
  void TearDown() override { fs::permissions(folder_, fs::perms::owner_all); }  // so that it can be removed

  static void put(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : fs::directory_iterator(folder_)) result.push_back(entry.path().filename().string());
    std::sort(result.begin(), result.end());
    return result;
  }
  template <class F>
  static void expect_error(ErrorKind kind, const std::string& part, F&& f) {
    try {
      f();
      ADD_FAILURE() << "no error; expected one with '" << part << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  }

  TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

TEST_F(Files, FileAppearsOnlyWithCommit) {
  const fs::path target = folder_ / "a.txt";
  {
    AtomicFile file(target);
    file.write("new");
    EXPECT_FALSE(fs::exists(target));
    file.write(" text");
    file.commit();
  }
  EXPECT_EQ(read_file(target), "new text");
  EXPECT_THAT(names(), ElementsAre("a.txt"));
}

TEST_F(Files, FileWithoutCommitLeavesTheOldOneAndNothingElse) {
  const fs::path target = folder_ / "a.txt";
  put(target, "old");
  {
    AtomicFile file(target);
    file.write("new");
    EXPECT_EQ(read_file(target), "old");
  }
  EXPECT_EQ(read_file(target), "old");
  EXPECT_THAT(names(), ElementsAre("a.txt"));
}

TEST_F(Files, FileThatCannotReplaceItsTargetLeavesNothing) {
  const fs::path target = folder_ / "taken";
  put(target / "inside", "x");
  expect_error(ErrorKind::kResource, "taken", [&] { write_file_atomically(target, "text"); });
  EXPECT_THAT(names(), ElementsAre("taken"));
}

TEST_F(Files, FullDiskIsAnErrorThatNamesTheFile) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  // The temporary's name is the target's with the process id; a link makes it the device that is always full.
  const fs::path target = folder_ / "a.txt";
  put(target, "old");
  fs::create_symlink("/dev/full", folder_ / ("a.txt.tmp-" + std::to_string(::getpid())));
  expect_error(ErrorKind::kResource, "a.txt", [&] { write_file_atomically(target, "text"); });
  EXPECT_EQ(read_file(target), "old");
  EXPECT_THAT(names(), ElementsAre("a.txt"));
}

TEST_F(Files, ReadOnlyAndMissingFoldersAreErrors) {
  expect_error(ErrorKind::kResource, "missing", [&] { write_file_atomically(folder_ / "missing" / "a", "x"); });
  expect_error(ErrorKind::kResource, "missing", [&] { AtomicDirectory(folder_ / "missing" / "a"); });
  if (::geteuid() == 0) GTEST_SKIP() << "root may write into read-only folders";
  fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
  expect_error(ErrorKind::kResource, "a.txt", [&] { write_file_atomically(folder_ / "a.txt", "x"); });
  expect_error(ErrorKind::kResource, "run", [&] { AtomicDirectory(folder_ / "run"); });
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(Files, DirectoryAppearsOnlyWithCommit) {
  const fs::path target = folder_ / "run";
  for (const std::string content : {"first", "second"}) {
    AtomicDirectory directory(target);
    put(directory.path() / "sub" / "a", content);
    EXPECT_EQ(fs::exists(target), content == "second");
    directory.commit();
    EXPECT_EQ(read_file(target / "sub" / "a"), content);
    EXPECT_THAT(names(), ElementsAre("run"));
  }
}

TEST_F(Files, DirectoryWithoutCommitLeavesTheOldOneAndNothingElse) {
  const fs::path target = folder_ / "run";
  put(target / "a", "old");
  {
    AtomicDirectory directory(target.string() + "/");  // a trailing slash is no other folder
    put(directory.path() / "a", "new");
  }
  EXPECT_EQ(read_file(target / "a"), "old");
  EXPECT_THAT(names(), ElementsAre("run"));
}

TEST_F(Files, DirectoryThatVanishedIsAnErrorAndTheOldOneStays) {
  const fs::path target = folder_ / "run";
  put(target / "a", "old");
  AtomicDirectory directory(target);
  fs::remove_all(directory.path());
  expect_error(ErrorKind::kResource, "run", [&] { directory.commit(); });
  EXPECT_EQ(read_file(target / "a"), "old");
}

// The states that a crash can leave, in the order of the steps: filling, old one set aside, renamed, old one removed.
TEST_F(Files, RecoverMendsEveryCrash) {
  const fs::path target = folder_ / "run", aside = folder_ / "run.old", temporary = folder_ / "run.tmp";
  const auto expect = [&](const std::string& content) {
    AtomicDirectory::recover(target);
    EXPECT_EQ(read_file(target / "a"), content);
    EXPECT_THAT(names(), ElementsAre("run"));
    fs::remove_all(target);
  };
  put(target / "a", "old");
  put(temporary / "a", "half");
  expect("old");

  put(aside / "a", "old");
  put(temporary / "a", "new");
  expect("old");

  put(target / "a", "new");
  put(aside / "a", "old");
  expect("new");

  put(target / "a", "new");
  fs::create_directories(aside);  // half removed
  expect("new");

  put(temporary / "a", "half of the first ever");
  AtomicDirectory::recover(target);
  EXPECT_THAT(names(), IsEmpty());

  // A new writer mends first.
  put(aside / "a", "old");
  put(temporary / "b", "left over");
  {
    AtomicDirectory directory(target);
    EXPECT_EQ(read_file(target / "a"), "old");
    EXPECT_TRUE(fs::is_empty(directory.path()));
  }
  EXPECT_THAT(names(), ElementsAre("run"));
}

TEST_F(Files, ReadFileChecksWhatItReads) {
  put(folder_ / "five", "12345");
  EXPECT_EQ(read_file(folder_ / "five", 5), "12345");
  expect_error(ErrorKind::kBadInput, "5 bytes", [&] { read_file(folder_ / "five", 4); });
  expect_error(ErrorKind::kNotFound, "none", [&] { read_file(folder_ / "none"); });
  expect_error(ErrorKind::kNotFound, "five/none", [&] { read_file(folder_ / "five" / "none"); });
  expect_error(ErrorKind::kBadInput, "regular", [&] { read_file(folder_); });
  put(folder_ / "empty", "");
  EXPECT_EQ(read_file(folder_ / "empty"), "");
  // A named pipe without a writer must not hang.
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_error(ErrorKind::kBadInput, "regular", [&] { read_file(folder_ / "pipe"); });
}

TEST_F(Files, MappingOutlivesReplacement) {
  const fs::path target = folder_ / "a";
  put(target, "old");
  const auto mapped = MappedFile::open(target);
  write_file_atomically(target, "newer");
  const auto bytes = mapped->bytes();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), "old");
  EXPECT_EQ(read_file(target), "newer");
}

}  // namespace
}  // namespace switchyard
