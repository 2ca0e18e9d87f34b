#include "switchyard/plan/machine.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "support/error_of.hpp"
#include "support/temporary_folder.hpp"

namespace switchyard::plan {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

TEST(Machine, ReadsMeminfo) {
  const std::string text = "MemTotal:       24684092 kB\nMemFree:  1 kB\nMemAvailable:   22160760 kB";
  EXPECT_EQ(meminfo_bytes(text, "MemTotal"), Index{24684092} * 1024);
  EXPECT_EQ(meminfo_bytes(text, "MemAvailable"), Index{22160760} * 1024);
  EXPECT_THAT(error_of(ErrorKind::kResource, [&] { meminfo_bytes(text, "Mem"); }), testing::HasSubstr("Mem"));
  EXPECT_THAT(error_of(ErrorKind::kResource, [] { meminfo_bytes("MemTotal: many kB\n", "MemTotal"); }),
              testing::HasSubstr("MemTotal"));
}

TEST(Machine, LimitsOfControlGroupsHoldTogether) {
  const TemporaryFolder root;
  EXPECT_EQ(cgroup_available(root.path(), "/a/b", 1000), 1000) << "no limit anywhere";
  write(root / "a/memory.max", "500\n");
  write(root / "a/memory.current", "100\n");
  write(root / "a/b/memory.max", "max\n");
  write(root / "a/b/memory.current", "50\n");
  EXPECT_EQ(cgroup_available(root.path(), "/a/b", 1000), 400) << "of the ancestor";
  write(root / "a/memory.stat", "anon 30\ninactive_file 60\n");
  EXPECT_EQ(cgroup_available(root.path(), "/a/b", 1000), 460) << "cached files go when room is needed";
  write(root / "a/b/memory.max", "70\n");
  EXPECT_EQ(cgroup_available(root.path(), "/a/b", 1000), 20);
  write(root / "a/b/memory.current", "90\n");
  EXPECT_EQ(cgroup_available(root.path(), "/a/b", 1000), 0);
  EXPECT_EQ(cgroup_available(root.path(), "/", 1000), 1000);
}

TEST(Machine, ThisOne) {
  const Machine machine = describe_machine();
  EXPECT_GT(machine.memory_available, 0);
  EXPECT_LE(machine.memory_available, machine.memory_total);
  EXPECT_GE(machine.threads, 1);
  EXPECT_FALSE(machine.instruction_set.empty());
}

TEST(Machine, MeasurementsAreSane) {
  // Between a machine of long ago and one that does not exist yet.
  const double bandwidth = measure_bandwidth(), arithmetic = measure_arithmetic();
  EXPECT_GT(bandwidth, 1e7);
  EXPECT_LT(bandwidth, 1e14);
  EXPECT_GT(arithmetic, 1e7);
  EXPECT_LT(arithmetic, 1e16);
}

}  // namespace
}  // namespace switchyard::plan
