#include "switchyard/formats/gguf.hpp"

#include <cmath>
#include <limits>

#include "support.hpp"
#include "switchyard/formats/tensor_files.hpp"
#include "switchyard/tensor/quantised.hpp"

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

TEST(Gguf, QuantisedTypesAreWhatThePythonPackageSays) {
  const auto file = TensorFiles::open(golden("gguf/blocks.safetensors"));
  int types = 0;
  for (std::uint32_t number = 0; number < 64; ++number) {
    const std::optional<DType> dtype = gguf_dtype(number);
    if (!dtype || !dtype_info(*dtype).is_quantised) continue;
    const std::string name(dtype_info(*dtype).name);
    const Tensor bytes = file.view(name + ".bytes"), expected = file.load(name + ".values");
    const Tensor blocks = Tensor::borrowed(*dtype, expected.shape(), bytes.bytes(), std::make_shared<int>());
    const Tensor values = blocks.to_f32();
    for (std::size_t i = 0; i < values.f32().size(); ++i) {
      const float a = values.f32()[i], b = expected.f32()[i];
      ASSERT_TRUE(std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) ||
                  (std::isnan(a) && std::isnan(b)))
          << name << " " << i << ": " << a << ", expected " << b;
    }
    ++types;
  }
  EXPECT_EQ(types, 13);
}

TEST(Gguf, WhatIsEncodedHasTheBytesOfThePythonPackage) {
  const auto file = TensorFiles::open(golden("gguf/blocks.safetensors"));
  const Tensor from = file.load("encode.from"), q8 = file.view("encode.Q8_0");
  std::vector<std::byte> blocks(q8.bytes().size());
  quantise_q8_0(from.f32().first(blocks.size() / 34 * 32), blocks);
  EXPECT_TRUE(std::ranges::equal(blocks, q8.bytes()));
  const Tensor f16 = file.view("encode.F16"), bf16 = file.view("encode.BF16");
  for (std::size_t i = 0; i < from.f32().size(); ++i) {
    std::uint16_t expected[2];
    std::memcpy(expected, f16.bytes().data() + 2 * i, 2);
    std::memcpy(expected + 1, bf16.bytes().data() + 2 * i, 2);
    ASSERT_EQ(to_float16(from.f32()[i]).bits, expected[0]) << i;
    ASSERT_EQ(to_bfloat16(from.f32()[i]).bits, expected[1]) << i;
  }
}

TEST(Gguf, AccessorsNameFileKeyFoundAndExpected) {
  GgufMetadata m("m.gguf");
  m.set("text", std::string("ab"));
  m.set("u64", std::numeric_limits<std::uint64_t>::max());
  m.set("i8", std::int8_t{-3});
  m.set("f32", 0.5F);
  m.set("bool", true);
  m.set("strings", GgufArray(std::vector<std::string>{"a", "b"}));
  m.set("u8s", GgufArray(std::vector<std::uint8_t>{1, 255}));
  m.set("u64s", GgufArray(std::vector<std::uint64_t>{std::numeric_limits<std::uint64_t>::max()}));
  m.set("bools", GgufArray(std::vector<bool>{true}));
  EXPECT_EQ(m.string("text"), "ab");
  EXPECT_EQ(m.integer("i8"), -3);
  EXPECT_EQ(m.number("i8"), -3.0);
  EXPECT_EQ(m.number("f32"), 0.5);
  EXPECT_TRUE(m.boolean("bool"));
  EXPECT_THAT(m.integers("u8s"), ElementsAre(1, 255));
  EXPECT_THAT(m.numbers("u8s"), ElementsAre(1.0, 255.0));
  EXPECT_FALSE(m.find_integer("x") || m.find_number("x") || m.find_boolean("x") || m.find_string("x") != nullptr ||
               m.find_integers("x") || m.find_numbers("x") || m.find_strings("x") != nullptr);
  const auto refused = [](const std::string& expected, const auto& ask) {
    expect_error(ErrorKind::kBadInput, {expected}, ask);
  };
  refused("m.gguf: key \"x\" is missing, expected a string", [&] { m.string("x"); });
  refused("m.gguf: key \"x\" is missing, expected an integer below 2^63", [&] { m.integer("x"); });
  refused("m.gguf: key \"text\": found the string \"ab\", expected an integer", [&] { m.integer("text"); });
  refused("m.gguf: key \"u64\": found the u64 18446744073709551615, expected an integer below 2^63",
          [&] { m.find_integer("u64"); });
  refused("m.gguf: key \"bool\": found the bool true, expected an integer", [&] { m.integer("bool"); });
  refused("m.gguf: key \"i8\": found the i8 -3, expected a bool", [&] { m.boolean("i8"); });
  refused("m.gguf: key \"f32\": found the f32 0.5, expected an integer", [&] { m.integer("f32"); });
  refused("m.gguf: key \"bool\": found the bool true, expected a number", [&] { m.number("bool"); });
  refused("m.gguf: key \"strings\": found an array of 2 string, expected a string", [&] { m.string("strings"); });
  refused("m.gguf: key \"u8s\": found an array of 2 u8, expected an array of strings", [&] { m.strings("u8s"); });
  refused("m.gguf: key \"bools\": found an array of 1 bool, expected an array of integers",
          [&] { m.integers("bools"); });
  refused("m.gguf: key \"u64s\": found an array of 1 u64, expected an array of integers", [&] { m.integers("u64s"); });
  refused("m.gguf: key \"strings\": found an array of 2 string, expected an array of numbers",
          [&] { m.numbers("strings"); });
  refused("m.gguf: key \"text\": found the string \"ab\", expected an array of integers", [&] { m.integers("text"); });
}

TEST(Gguf, MetadataKeepsItsOrder) {
  GgufMetadata m;
  for (const char* key : {"b", "a", "c", "d"}) m.set(key, std::uint8_t{1});
  m.set("a", std::uint8_t{2});
  m.erase("b");
  m.erase("x");
  std::vector<std::string> keys;
  for (const auto& item : m.items()) keys.push_back(item.key);
  EXPECT_THAT(keys, ElementsAre("a", "c", "d"));
  EXPECT_EQ(m.integer("a"), 2);
  EXPECT_EQ(m.integer("d"), 1);
  EXPECT_FALSE(m.contains("b"));
}

// Tensors of every type that GGUF has, of random bits.
struct Sample {
  std::vector<std::shared_ptr<const Tensor>> tensors;
  std::vector<DeferredTensor> deferred;
  void add(const std::string& name, DType dtype, const Shape& shape) {
    const auto tensor =
        std::make_shared<const Tensor>(random_bits(dtype, shape, static_cast<std::uint32_t>(tensors.size())));
    tensors.push_back(tensor);
    deferred.push_back({name, dtype, shape, [tensor] {
                          return Tensor::borrowed(tensor->dtype(), tensor->shape(), tensor->bytes(), tensor);
                        }});
  }
  static Sample every_type() {
    Sample sample;
    for (std::uint32_t number = 0; number < 64; ++number) {
      if (const auto dtype = gguf_dtype(number)) {
        EXPECT_EQ(gguf_tensor_type(*dtype), number);
        sample.add(std::string(dtype_info(*dtype).name), *dtype, {3, 2, dtype_info(*dtype).block_elements});
      }
    }
    sample.add("scalar", DType::kF32, {});
    sample.add("empty", DType::kF16, {0, 5});
    sample.add("four", DType::kI8, {2, 1, 3, 5});
    return sample;
  }
};

GgufMetadata sample_metadata() {
  GgufMetadata m;
  m.set("general.architecture", std::string("test"));
  m.set("bytes", std::string("\xff\0x", 3));
  m.set("strings", GgufArray(std::vector<std::string>{"", "a"}));
  m.set("none", GgufArray(std::vector<float>{}));
  m.set("bools", GgufArray(std::vector<bool>{true, false, true}));
  m.set("u64", std::uint64_t{7});
  m.set("f64", -0.125);
  return m;
}

template <class Files>
void expect_holds(const Files& files, const Sample& sample) {
  for (std::size_t i = 0; i < sample.tensors.size(); ++i)
    EXPECT_TRUE(same_bytes(files.view(sample.deferred[i].name), *sample.tensors[i])) << sample.deferred[i].name;
}

TEST(Gguf, WritesWhatItReads) {
  const Sample sample = Sample::every_type();
  const TemporaryFolder folder;
  for (const std::uint32_t alignment : {0U, 1U, 8U, 64U}) {
    GgufMetadata metadata = sample_metadata();
    if (alignment != 0) metadata.set("general.alignment", alignment);
    const auto written = write_gguf(folder / "m.gguf", metadata, sample.deferred);
    EXPECT_THAT(written, ElementsAre(folder / "m.gguf"));
    const auto file = GgufFile::open(folder / "m.gguf");
    ASSERT_EQ(file->metadata().items().size(), metadata.items().size());
    for (std::size_t i = 0; i < metadata.items().size(); ++i) {
      EXPECT_EQ(file->metadata().items()[i].key, metadata.items()[i].key);
      EXPECT_EQ(file->metadata().items()[i].value, metadata.items()[i].value);
    }
    for (const TensorEntry& entry : file->tensors()) EXPECT_EQ(entry.offset % (alignment == 0 ? 32 : alignment), 0U);
    expect_holds(*file, sample);
    // The same bytes again.
    const std::string first = read_file(folder / "m.gguf");
    write_gguf(folder / "m.gguf", metadata, sample.deferred);
    EXPECT_EQ(read_file(folder / "m.gguf"), first);
  }
  EXPECT_THAT(file_names(folder.path()), ElementsAre("m.gguf"));
}

TEST(Gguf, WritesAFileWithoutTensors) {
  const TemporaryFolder folder;
  write_gguf(folder / "m.gguf", sample_metadata(), {});
  EXPECT_EQ(GgufFile::open(folder / "m.gguf")->metadata().string("general.architecture"), "test");
  EXPECT_TRUE(TensorFiles::open(folder / "m.gguf").names().empty());
}

TEST(Gguf, WritesParts) {
  Sample sample;
  for (int i = 0; i < 7; ++i) sample.add(fmt::format("t{}", i), DType::kF32, {5});  // 20 bytes each
  GgufMetadata metadata = sample_metadata();
  metadata.set("split.count", std::uint16_t{9});  // of where it came from
  metadata.set("general.alignment", std::uint32_t{64});
  for (const std::size_t limit : {0U, 20U, 39U, 40U, 60U, 139U, 140U}) {
    const TemporaryFolder folder;
    const auto written = write_gguf(folder / "m.v2.gguf", metadata, sample.deferred, limit);
    const std::size_t a_part = std::max<std::size_t>(limit / 20, 1), count = (7 + a_part - 1) / a_part;
    ASSERT_EQ(written.size(), count);
    EXPECT_EQ(file_names(folder.path()).size(), count);
    EXPECT_EQ(written.front().filename(), count == 1 ? "m.v2.gguf" : fmt::format("m.v2-00001-of-{:05}.gguf", count));
    for (const fs::path& path : written) {
      const TensorFiles files = TensorFiles::open(path);
      expect_holds(files, sample);
      EXPECT_EQ(files.path(), written.front());
      EXPECT_EQ(files.names().size(), 7U);
      EXPECT_EQ(files.gguf()->contains("split.count"), count > 1);
      EXPECT_EQ(files.gguf()->string("general.architecture"), "test");
    }
  }
}

TEST(Gguf, PartsThatDoNotBelongTogether) {
  Sample sample;
  for (int i = 0; i < 3; ++i) sample.add(fmt::format("t{}", i), DType::kF32, {5});
  const TemporaryFolder folder;
  const auto parts = write_gguf(folder / "m.gguf", sample_metadata(), sample.deferred, 20);
  ASSERT_EQ(parts.size(), 3U);
  std::vector<std::string> good;
  for (const fs::path& path : parts) good.push_back(read_file(path));
  const auto refused = [&](ErrorKind kind, const std::vector<std::string>& messages, std::size_t opened = 0) {
    expect_error(kind, messages, [&] { TensorFiles::open(parts[opened]); });
    for (std::size_t i = 0; i < 3; ++i) write_file_atomically(parts[i], good[i]);
    EXPECT_NO_THROW(TensorFiles::open(parts[opened]));
  };
  fs::remove(parts[1]);
  refused(ErrorKind::kNotFound, {parts[0].string(), "part 2 of 3 is missing", parts[1].string()});
  fs::remove(parts[0]);
  refused(ErrorKind::kNotFound, {parts[2].string(), "part 1 of 3 is missing", parts[0].string()}, 2);
  write_file_atomically(parts[2], good[1]);
  refused(ErrorKind::kBadInput, {parts[2].string(), "key \"split.no\": found the u16 1", "expected 2"});
  write_file_atomically(parts[1], good[0]);  // the first again, as in a circle
  refused(ErrorKind::kBadInput, {parts[1].string(), "key \"split.no\": found the u16 0", "expected 1"});
  write_file_atomically(parts[0], good[1]);
  refused(ErrorKind::kBadInput, {parts[0].string(), "part 2 of 3", "ends with \"-00002-of-00003.gguf\""});
  write_gguf(parts[1], sample_metadata(), std::span(sample.deferred).subspan(1, 1));
  refused(ErrorKind::kBadInput, {parts[1].string(), "key \"split.count\" is missing, expected 3"});
  const auto part = [&](std::size_t from, std::uint16_t no, std::uint16_t count, std::int32_t tensors) {
    // Written as a file of its own, whose split keys are put in behind the writer's back.
    write_gguf(folder / "x.gguf", sample_metadata(), std::span(sample.deferred).subspan(from, 1));
    std::string bytes = read_file(folder / "x.gguf");
    fs::remove(folder / "x.gguf");
    const auto put = [&](std::string& at, const auto& value) {
      at.append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    std::string keys;
    const auto key = [&](std::string_view name, std::uint32_t type) {
      put(keys, std::uint64_t{name.size()});
      keys.append(name);
      put(keys, type);
    };
    key("split.no", 2);
    put(keys, no);
    key("split.count", 2);
    put(keys, count);
    key("split.tensors.count", 5);
    put(keys, tensors);
    const GgufHeader header = parse_gguf_header(as_bytes(bytes), "x");
    const std::size_t infos = 8 + 2 + 4 + 8 + 4 + 8;  // of one tensor with a name of two bytes
    std::size_t end = header.data_begin;
    while (bytes.compare(end - infos, 8, std::string("\2\0\0\0\0\0\0\0", 8)) != 0) --end;
    std::string with = bytes.substr(0, end - infos) + keys + bytes.substr(end - infos, infos);
    with[16] = static_cast<char>(with[16] + 3);
    with.resize((with.size() + 31) / 32 * 32);
    return with + bytes.substr(header.data_begin);
  };
  write_file_atomically(parts[1], part(0, 1, 3, 3));
  refused(ErrorKind::kBadInput, {parts[1].string(), "tensor \"t0\" is also in", parts[0].string()});
  write_file_atomically(parts[0], part(0, 0, 3, 4));
  refused(ErrorKind::kBadInput, {parts[0].string(), "key \"split.tensors.count\": found the i32 4, expected 3"});
  write_file_atomically(parts[0], part(0, 3, 3, 3));
  refused(ErrorKind::kBadInput, {parts[0].string(), "key \"split.no\": found the u16 3, expected 0 to 2"});
  write_file_atomically(parts[2], good[2].substr(0, good[2].size() - 30));
  refused(ErrorKind::kBadInput, {parts[2].string(), "truncated", "t2"});
}

TEST(Gguf, RefusesToWriteWhatTheFormatHasNot) {
  const TemporaryFolder folder;
  const auto refused = [&](ErrorKind kind, const Sample& sample, const std::vector<std::string>& parts) {
    expect_error(kind, parts, [&] { write_gguf(folder / "m.gguf", sample_metadata(), sample.deferred); });
    EXPECT_TRUE(file_names(folder.path()).empty());
  };
  const auto one = [](const std::string& name, DType dtype, const Shape& shape) {
    Sample sample;
    sample.add(name, dtype, shape);
    return sample;
  };
  refused(ErrorKind::kUnsupported, one("x", DType::kF8E4M3, {4}), {"m.gguf", "tensor \"x\"", "no type F8_E4M3"});
  refused(ErrorKind::kUnsupported, one("x", DType::kF32, {1, 1, 1, 1, 1}), {"tensor \"x\"", "at most 4 dimensions"});
  refused(ErrorKind::kUnsupported, one(std::string(64, 'x'), DType::kF32, {1}), {"a name of 64 bytes", "at most 63"});
  refused(ErrorKind::kUnsupported, one("x", DType::kQ80, {2, 16}), {"rows of 16 elements", "blocks of Q8_0"});
  Sample twice = one("x", DType::kF32, {1});
  twice.add("x", DType::kF32, {2});
  refused(ErrorKind::kBadInput, twice, {"two tensors are named \"x\""});
  EXPECT_NO_THROW(write_gguf(folder / "m.gguf", {}, one(std::string(63, 'x'), DType::kF32, {1}).deferred));
}

TEST(Gguf, NothingIsLeftOfWhatFailed) {
  const TemporaryFolder folder;
  Sample sample;
  for (int i = 0; i < 4; ++i) sample.add(fmt::format("t{}", i), DType::kF32, {5});
  write_gguf(folder / "m.gguf", sample_metadata(), sample.deferred, 20);
  const std::string before = read_file(folder / "m-00001-of-00004.gguf");
  sample.deferred[2].make = []() -> Tensor { fail(ErrorKind::kResource, "no memory"); };
  expect_error(ErrorKind::kResource, {"no memory"}, [&] { write_gguf(folder / "m.gguf", {}, sample.deferred, 20); });
  EXPECT_EQ(file_names(folder.path()).size(), 4U);
  EXPECT_EQ(read_file(folder / "m-00001-of-00004.gguf"), before);
  sample.deferred[2].make = [] { return Tensor::zeros(DType::kF32, {6}); };
  expect_error(ErrorKind::kInternal, {"tensor \"t2\" was made of another type or shape"},
               [&] { write_gguf(folder / "n.gguf", {}, sample.deferred); });
  EXPECT_EQ(file_names(folder.path()).size(), 4U);
  // A rename that fails takes back those before it: a folder stands where the first part should go.
  sample.deferred.resize(2);
  fs::create_directories(folder / "o-00001-of-00002.gguf" / "x");
  expect_error(ErrorKind::kResource, {"o-00001-of-00002.gguf", "rename"},
               [&] { write_gguf(folder / "o.gguf", {}, sample.deferred, 20); });
  EXPECT_FALSE(fs::exists(folder / "o-00002-of-00002.gguf"));
  EXPECT_EQ(file_names(folder.path()).size(), 5U);
}

}  // namespace
}  // namespace switchyard::formats
