#include "switchyard/base/progress.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "switchyard/base/error.hpp"
#include "switchyard/base/index.hpp"

namespace switchyard {
namespace {

TEST(Format, Duration) {
  EXPECT_EQ(format_duration(0.0), "0 s");
  EXPECT_EQ(format_duration(-3.0), "0 s");
  EXPECT_EQ(format_duration(4.4), "4 s");
  EXPECT_EQ(format_duration(59.4), "59 s");
  EXPECT_EQ(format_duration(59.6), "1 min 00 s");
  EXPECT_EQ(format_duration(125.0), "2 min 05 s");
  EXPECT_EQ(format_duration(3599.6), "1 h 00 min");
  EXPECT_EQ(format_duration(3720.0), "1 h 02 min");
  EXPECT_EQ(format_duration(360000.0), "100 h 00 min");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::quiet_NaN()), "?");
}

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(3565158), "3.4 MiB");
  EXPECT_EQ(format_bytes((1U << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes(std::uint64_t{5} << 40), "5.0 TiB");
  EXPECT_EQ(format_bytes(std::uint64_t{5000} << 40), "5000.0 TiB");
}

TEST(Format, Count) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(950), "950");
  EXPECT_EQ(format_count(999.6), "1.00 k");
  EXPECT_EQ(format_count(12345), "12.3 k");
  EXPECT_EQ(format_count(999949), "999.9 k");
  EXPECT_EQ(format_count(999960), "1.00 M");
  EXPECT_EQ(format_count(4.56e6), "4.56 M");
  EXPECT_EQ(format_count(1.2e9), "1.20 B");
  EXPECT_EQ(format_count(3e12), "3.00 T");
  EXPECT_EQ(format_count(3e15), "3000.0 T");
}

TEST(Index, RoundsUp) {
  EXPECT_EQ(ceil_div(0, 4), 0);
  EXPECT_EQ(ceil_div(1, 4), 1);
  EXPECT_EQ(ceil_div(8, 4), 2);
  EXPECT_EQ(ceil_div(9, 4), 3);
  EXPECT_EQ(round_up(9, 4), 12);
}

TEST(Error, CarriesKindAndMessage) {
  try {
    fail(ErrorKind::kNotFound, "{}: no {}", "a.toml", 3);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNotFound);
    EXPECT_STREQ(error.what(), "a.toml: no 3");
  }
  EXPECT_NO_THROW(require(true, "fine"));
  EXPECT_THROW(require(false, "broken"), Error);
}

}  // namespace
}  // namespace switchyard
