#include "switchyard/formats/safetensors.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>

#include "support.hpp"

namespace switchyard::formats {
namespace {

using testing::ElementsAre;

constexpr std::array kAllTypes = {
    DType::kF32, DType::kF64, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2, DType::kF8E8M0, DType::kI8,
    DType::kU8,  DType::kI16, DType::kU16, DType::kI32,  DType::kU32,    DType::kI64,    DType::kU64,    DType::kBool};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {{}, {1}, {7}, {0}, {3, 5}, {4, 0}, {2, 3, 5}, {2, 1, 3, 2}, {0, 0, 0, 0}};
  return all;
}

// Tensors of every type and shape, kept together with their names.
struct Everything {
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<NamedTensor> named;
  Everything() {
    std::uint32_t seed = 0;
    for (const DType dtype : kAllTypes) {
      for (const Shape& shape : shapes()) {
        tensors.push_back(std::make_unique<Tensor>(random_bits(dtype, shape, ++seed)));
        named.push_back(
            {fmt::format("{}/{}/{}", dtype_info(dtype).name, shape.to_string(), seed), tensors.back().get()});
      }
    }
  }
};

TEST(Safetensors, FourBitElementsAreTwoAByte) {
  const TemporaryFolder folder;
  const Tensor packed = random_bits(DType::kF4, {3, 2, 4}, 5);
  const std::vector<NamedTensor> named = {{"packed", &packed}};
  write_safetensors(folder / "w.safetensors", named);
  const auto file = SafetensorsFile::open(folder / "w.safetensors");
  EXPECT_EQ(file->find("packed")->bytes, 12U);
  EXPECT_EQ(file->find("packed")->dtype, DType::kF4);
  EXPECT_TRUE(same_bytes(file->tensor("packed"), packed));
}

TEST(Safetensors, RoundTripOfEveryTypeAndRank) {
  const Everything all;
  const TemporaryFolder folder;
  write_safetensors(folder / "a.safetensors", all.named, {{"format", "pt"}});
  const auto file = SafetensorsFile::open(folder / "a.safetensors");
  ASSERT_EQ(file->tensors().size(), all.named.size());
  for (const NamedTensor& named : all.named) {
    const TensorEntry* entry = file->find(named.name);
    ASSERT_NE(entry, nullptr) << named.name;
    EXPECT_EQ(entry->name, named.name);
    EXPECT_TRUE(same_bytes(file->tensor(named.name), *named.tensor)) << named.name;
  }
  EXPECT_THAT(file->metadata(), ElementsAre(testing::Pair("format", "pt")));
}

TEST(Safetensors, ATensorIsAlignedForItsTypeEvenWhereTheFileIsNot) {
  Everything all;
  const TemporaryFolder folder;
  const Tensor one_byte = random_bits(DType::kU8, {1}, 1);
  all.named.insert(all.named.begin() + 3, {"one byte", &one_byte});
  write_safetensors(folder / "a.safetensors", all.named);
  const auto file = SafetensorsFile::open(folder / "a.safetensors");
  const std::string content = read_file(folder / "a.safetensors");
  std::size_t borrowed = 0, copied = 0;
  for (const TensorEntry& entry : file->tensors()) {
    const Tensor tensor = file->tensor(entry.name);
    const auto size = static_cast<std::uintptr_t>(dtype_info(entry.dtype).block_bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.bytes().data()) % size, 0U) << entry.name;
    EXPECT_EQ(tensor.writable(), entry.offset % size != 0) << entry.name;
    EXPECT_TRUE(std::ranges::equal(tensor.bytes(), as_bytes(content).subspan(entry.offset, entry.bytes)));
    ++(tensor.writable() ? copied : borrowed);
  }
  EXPECT_GT(borrowed, 0U);
  EXPECT_GT(copied, 0U);
}

TEST(Safetensors, DataBeginsAtAMultipleOf64) {
  const TemporaryFolder folder;
  const Tensor tensor = random_bits(DType::kF32, {3}, 1);
  for (std::size_t length = 1; length < 70; ++length) {
    const std::string name(length, 'x');
    const NamedTensor named{name, &tensor};
    write_safetensors(folder / "a.safetensors", std::span(&named, 1));
    const auto file = SafetensorsFile::open(folder / "a.safetensors");
    EXPECT_EQ(file->find(name)->offset % 64, 0U) << length;
    EXPECT_FALSE(file->tensor(name).writable()) << length;
  }
}

TEST(Safetensors, TheSameTensorsGiveTheSameFile) {
  const Everything all;
  const TemporaryFolder folder;
  write_safetensors(folder / "a", all.named, {{"b", "2"}, {"a", "1"}});
  write_safetensors(folder / "b", all.named, {{"a", "1"}, {"b", "2"}});
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
}

TEST(Safetensors, AViewKeepsTheFileAliveAndOutlivesItsReplacement) {
  const TemporaryFolder folder;
  const Tensor first = random_bits(DType::kF32, {1000}, 1), second = random_bits(DType::kF32, {1000}, 2);
  const NamedTensor first_named{"x", &first}, second_named{"x", &second};
  write_safetensors(folder / "a", std::span(&first_named, 1));
  const Tensor view = SafetensorsFile::open(folder / "a")->tensor("x");
  write_safetensors(folder / "a", std::span(&second_named, 1));
  EXPECT_TRUE(same_bytes(view, first));
  EXPECT_TRUE(same_bytes(SafetensorsFile::open(folder / "a")->tensor("x"), second));
}

TEST(Safetensors, NoTensorsAtAll) {
  const TemporaryFolder folder;
  write_safetensors(folder / "a", {});
  EXPECT_TRUE(SafetensorsFile::open(folder / "a")->tensors().empty());
  EXPECT_TRUE(parse_safetensors_header(as_bytes(safetensors_of("{}", 0)), "a").tensors.empty());
}

TEST(Safetensors, StrangeNamesSurvive) {
  const TemporaryFolder folder;
  const Tensor tensor = random_bits(DType::kU8, {3}, 1);
  const std::vector<std::string> names = {"", "a\"b\\c", "new\nline", std::string("nul\0byte", 8), "grüße ☃ 𝄞", "\x7f"};
  std::vector<NamedTensor> named;
  for (const std::string& name : names) named.push_back({name, &tensor});
  write_safetensors(folder / "a", named, {{"key \"☃\"", "va\tlue"}});
  const auto file = SafetensorsFile::open(folder / "a");
  for (const std::string& name : names) EXPECT_TRUE(same_bytes(file->tensor(name), tensor)) << name;
  EXPECT_EQ(file->metadata().at("key \"☃\""), "va\tlue");
}

// Written by the Python library; see tools/golden/formats.py.
TEST(Safetensors, ReadsWhatThePythonLibraryWrites) {
  const auto file = SafetensorsFile::open(golden("safetensors/numpy.safetensors"));
  EXPECT_EQ(file->tensors().size(), 7U);
  EXPECT_EQ(file->metadata(), (SafetensorsMetadata{{"format", "np"}, {"note", "quotes \" and \n newline"}}));
  const Tensor weight = file->tensor("weight");
  EXPECT_EQ(weight.shape(), (Shape{2, 3}));
  EXPECT_THAT(weight.f32(), ElementsAre(-1.0F, -0.75F, -0.5F, -0.25F, 0.0F, 0.25F));
  EXPECT_THAT(file->tensor("half").to_f32().f32(), ElementsAre(0.5F, -1.0F, 65504.0F));
  EXPECT_EQ(file->tensor("scalar").shape(), Shape{});
  EXPECT_THAT(file->tensor("scalar").values<std::int64_t>(), ElementsAre(7));
  EXPECT_EQ(file->tensor("empty").shape(), (Shape{0, 4}));
  EXPECT_THAT(file->tensor("bytes").values<std::uint8_t>(), ElementsAre(0, 128, 255));
  EXPECT_THAT(file->tensor("flag").bytes(), ElementsAre(std::byte{1}, std::byte{0}));
  EXPECT_THAT(file->tensor("grüße/☃").values<std::int32_t>(), ElementsAre(-3));
}

TEST(Safetensors, AMissingTensorOrFileIsNamed) {
  const auto file = SafetensorsFile::open(golden("safetensors/numpy.safetensors"));
  EXPECT_EQ(file->find("weigh"), nullptr);
  expect_error(ErrorKind::kNotFound, {"numpy.safetensors", "no tensor \"weigh\""}, [&] { file->tensor("weigh"); });
  expect_error(ErrorKind::kNotFound, {"no/such.safetensors"}, [] { SafetensorsFile::open("no/such.safetensors"); });
}

TEST(Safetensors, WriterRefusesNamesThatTheFormatCannotHold) {
  const TemporaryFolder folder;
  const Tensor tensor = random_bits(DType::kU8, {1}, 1);
  const auto write = [&](std::vector<std::string> names, const SafetensorsMetadata& metadata = {}) {
    std::vector<NamedTensor> named;
    for (std::string& name : names) named.push_back({std::move(name), &tensor});
    write_safetensors(folder / "a", named, metadata);
  };
  expect_error(ErrorKind::kBadInput, {"two tensors are named \"x\""}, [&] { write({"x", "y", "x"}); });
  expect_error(ErrorKind::kBadInput, {"__metadata__"}, [&] { write({"__metadata__"}); });
  expect_error(ErrorKind::kBadInput, {"\\xff", "not UTF-8"}, [&] { write({"\xff"}); });
  expect_error(ErrorKind::kBadInput, {"\\xc0", "not UTF-8"}, [&] { write({"x"}, {{"key", "\xc0\x80"}}); });
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
}

TEST(Safetensors, AFullDiskLeavesTheOldFile) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const TemporaryFolder folder;
  const Tensor tensor = random_bits(DType::kU8, {100000}, 1);
  const NamedTensor named{"x", &tensor};
  write_safetensors(folder / "a", std::span(&named, 1));
  const std::string before = read_file(folder / "a");
  // The temporary file stands for a disk that has just become full.
  std::filesystem::create_symlink("/dev/full", folder / ("a.tmp-" + std::to_string(::getpid())));
  expect_error(ErrorKind::kResource, {(folder / "a").string(), "No space left"},
               [&] { write_safetensors(folder / "a", std::span(&named, 1)); });
  EXPECT_EQ(read_file(folder / "a"), before);
}

TEST(Safetensors, AFolderThatIsNotThereIsNamed) {
  const TemporaryFolder folder;
  expect_error(ErrorKind::kResource, {"missing/a"}, [&] { write_safetensors(folder / "missing/a", {}); });
}

}  // namespace
}  // namespace switchyard::formats
