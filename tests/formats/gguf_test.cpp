#include "switchyard/formats/gguf.hpp"

#include <cmath>
#include <limits>

#include "support.hpp"
#include "switchyard/formats/tensor_files.hpp"

namespace switchyard::formats {
namespace {

using testing::ElementsAre;
namespace fs = std::filesystem;

// The tensors of tools/golden/gguf_blocks.py.
template <class Files>
void expect_golden_tensors(const Files& files) {
  const Tensor f32 = files.view("f32");
  EXPECT_EQ(f32.shape(), Shape({2, 3}));
  EXPECT_THAT(f32.f32(), ElementsAre(-1.0F, -0.75F, -0.5F, -0.25F, 0.0F, 0.25F));
  const Tensor f16 = files.view("f16");
  EXPECT_EQ(f16.dtype(), DType::kF16);
  EXPECT_THAT(f16.to_f32().f32(), ElementsAre(0.5F, -1.0F, 65504.0F));
  const Tensor stack = files.view("stack");
  EXPECT_EQ(stack.shape(), Shape({2, 3, 4}));
  for (std::int32_t i = 0; i < 24; ++i)
    EXPECT_EQ(stack.template values<std::int32_t>()[static_cast<std::size_t>(i)], i);
  const Tensor q8 = files.view("q8");
  EXPECT_EQ(q8.dtype(), DType::kQ80);
  EXPECT_EQ(q8.shape(), Shape({2, 64}));
  EXPECT_EQ(q8.bytes().size(), 4U * 34);
  const Tensor q6 = files.view("q6");
  EXPECT_EQ(q6.dtype(), DType::kQ6K);
  EXPECT_EQ(q6.shape(), Shape({3, 512}));
}

TEST(Gguf, ReadsWhatThePythonPackageWrote) {
  const auto file = GgufFile::open(golden("gguf/whole.gguf"));
  const GgufMetadata& m = file->metadata();
  EXPECT_EQ(file->version(), 3U);
  EXPECT_EQ(m.items().front().key, "general.architecture");
  EXPECT_EQ(m.string("general.architecture"), "test");
  EXPECT_EQ(*m.find("u8"), GgufValue(std::uint8_t{255}));
  EXPECT_EQ(*m.find("i8"), GgufValue(std::int8_t{-128}));
  EXPECT_EQ(*m.find("u16"), GgufValue(std::uint16_t{65535}));
  EXPECT_EQ(*m.find("i16"), GgufValue(std::int16_t{-32768}));
  EXPECT_EQ(*m.find("u32"), GgufValue(std::uint32_t{4294967295}));
  EXPECT_EQ(*m.find("i32"), GgufValue(std::int32_t{-2147483647 - 1}));
  EXPECT_EQ(*m.find("f32"), GgufValue(0.1F));
  EXPECT_EQ(*m.find("bool"), GgufValue(true));
  EXPECT_EQ(*m.find("string"), GgufValue(std::string("gr\u00fc\u00dfe \u2603")));
  EXPECT_EQ(*m.find("u64"), GgufValue(std::numeric_limits<std::uint64_t>::max()));
  EXPECT_EQ(*m.find("i64"), GgufValue(std::numeric_limits<std::int64_t>::min()));
  EXPECT_EQ(*m.find("f64"), GgufValue(0.1));
  EXPECT_THAT(m.strings("strings"), ElementsAre("a", "", "\u2581the"));
  EXPECT_THAT(m.integers("integers"), ElementsAre(1, -2, 3));
  EXPECT_THAT(m.numbers("floats"), ElementsAre(0.5, -1.5));
  EXPECT_EQ(*m.find("bools"), GgufValue(GgufArray(std::vector<bool>{true, false})));
  EXPECT_EQ(m.find("x"), nullptr);
  EXPECT_THAT(TensorFiles::open(file->path()).names(), ElementsAre("f32", "f16", "stack", "q8", "q6"));
  expect_golden_tensors(*file);
  expect_golden_tensors(TensorFiles::open(file->path()));
}

TEST(Gguf, PartsAreFoundFromAnyOfThem) {
  const fs::path first = golden("gguf/split-00001-of-00003.gguf");
  for (int part = 1; part <= 3; ++part) {
    const TensorFiles files = TensorFiles::open(golden(fmt::format("gguf/split-{:05}-of-00003.gguf", part)));
    expect_golden_tensors(files);
    EXPECT_EQ(files.path(), first);
    EXPECT_EQ(files.path_of("q6"), golden("gguf/split-00003-of-00003.gguf"));
    ASSERT_NE(files.gguf(), nullptr);
    EXPECT_EQ(files.gguf()->integer("u32"), 4294967295);
    EXPECT_THAT(files.names(), ElementsAre("f32", "f16", "stack", "q8", "q6"));
  }
}

}  // namespace
}  // namespace switchyard::formats
