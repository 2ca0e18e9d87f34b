#include "switchyard/formats/npy.hpp"

#include <cstdint>

#include "support.hpp"

namespace switchyard::formats {
namespace {

using testing::ElementsAre;

Tensor golden_2x3() {
  Tensor tensor = Tensor::uninitialized(DType::kF32, {2, 3});
  for (std::size_t i = 0; i < 6; ++i) tensor.f32()[i] = static_cast<float>(i) / 4 - 1;
  return tensor;
}

TEST(Npy, RoundTripOfEveryTypeAndRank) {
  const TemporaryFolder folder;
  const std::vector<Shape> shapes = {{},
                                     {1},
                                     {7},
                                     {0},
                                     {3, 5},
                                     {4, 0},
                                     {2, 3, 5},
                                     {2, 1, 3, 2},
                                     {0, 0, 0, 0},
                                     {1, 1, 1, 1, 1, 1, 1, 2},
                                     {123456789, 0}};
  std::uint32_t seed = 0;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kI32, DType::kI64}) {
    for (const Shape& shape : shapes) {
      const Tensor tensor = random_bits(dtype, shape, ++seed);
      write_npy(folder / "a.npy", tensor);
      EXPECT_TRUE(same_bytes(read_npy(folder / "a.npy"), tensor)) << dtype_info(dtype).name << shape.to_string();
      EXPECT_EQ((std::filesystem::file_size(folder / "a.npy") - tensor.bytes().size()) % 64, 0U);
    }
  }
}

// The files under golden/npy are numpy's; see tools/golden/formats.py.
TEST(Npy, ReadsWhatNumpyWrites) {
  EXPECT_TRUE(same_bytes(read_npy(golden("npy/f32_2x3.npy")), golden_2x3()));
  const Tensor scalar = read_npy(golden("npy/f64_scalar.npy"));
  EXPECT_EQ(scalar.shape(), Shape{});
  EXPECT_THAT(scalar.values<double>(), ElementsAre(1.0 / 3.0));
  EXPECT_THAT(read_npy(golden("npy/i32_5.npy")).values<std::int32_t>(), ElementsAre(-2, -1, 0, 1, 2));
  EXPECT_EQ(read_npy(golden("npy/i64_2x0x3.npy")).shape(), (Shape{2, 0, 3}));
  EXPECT_EQ(read_npy(golden("npy/i64_2x0x3.npy")).dtype(), DType::kI64);
  EXPECT_THAT(read_npy(golden("npy/f32_version2.npy")).f32(), ElementsAre(1.5F, -2.5F));
}

TEST(Npy, WritesTheBytesThatNumpyWrites) {
  const TemporaryFolder folder;
  for (const char* name : {"f32_2x3.npy", "f64_scalar.npy", "i32_5.npy", "i64_2x0x3.npy"}) {
    const auto path = golden(std::string("npy/") + name);
    write_npy(folder / name, read_npy(path));
    EXPECT_EQ(read_file(folder / name), read_file(path)) << name;
  }
}

TEST(Npy, RefusesWhatItDoesNotRead) {
  const auto refuse = [](const char* name, const std::vector<std::string>& parts) {
    expect_error(ErrorKind::kUnsupported, parts, [&] { read_npy(golden(std::string("npy/") + name)); });
  };
  refuse("bad_fortran.npy", {"bad_fortran.npy", "fortran_order True", "expected False"});
  refuse("bad_big_endian.npy", {"bad_big_endian.npy", "\">f4\"", "big-endian", "expected '<f4'"});
  refuse("bad_object.npy", {"bad_object.npy", "\"|O\"", "pickled"});
  refuse("bad_struct.npy", {"bad_struct.npy", "structured dtype"});
}

TEST(Npy, WritesOnlyItsFourTypes) {
  const TemporaryFolder folder;
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kU8, DType::kBool, DType::kU64}) {
    expect_error(ErrorKind::kUnsupported, {"a.npy", std::string(dtype_info(dtype).name), "expected F32"},
                 [&] { write_npy(folder / "a.npy", Tensor::zeros(dtype, {2})); });
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "a.npy"));
  expect_error(ErrorKind::kResource, {"missing"}, [&] { write_npy(folder / "missing/a.npy", golden_2x3()); });
}

// A version 1.0 file with this header and `data_bytes` zeros.
std::string npy_of(std::string_view header, std::size_t data_bytes) {
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 0xFF);
  file += static_cast<char>(header.size() >> 8);
  return file + std::string(header) + std::string(data_bytes, '\0');
}

void expect_refused(std::string_view header, std::size_t data_bytes, std::vector<std::string> parts,
                    ErrorKind kind = ErrorKind::kBadInput) {
  parts.push_back("a.npy: ");
  expect_error(
      kind, parts, [&] { parse_npy(as_bytes(npy_of(header, data_bytes)), "a.npy"); },
      testing::Message() << "\n  header " << header);
}

TEST(Npy, AcceptsOtherSpellingsOfTheHeader) {
  for (const char* header : {"{'descr':'<f4','fortran_order':False,'shape':(2,3)}",
                             "{\"shape\": (2, 3,), \"descr\": \"<f4\", \"fortran_order\": False}\n",
                             " { 'fortran_order' : False , 'shape' : ( 2 , 3 ) , 'descr' : '<f4' , } \n"}) {
    EXPECT_EQ(parse_npy(as_bytes(npy_of(header, 24)), "a.npy").shape(), (Shape{2, 3})) << header;
  }
}

TEST(Npy, MalformedHeaders) {
  const auto with_shape = [](std::string_view shape) {
    return fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}\n", shape);
  };
  expect_refused("", 0, {"header: found its end", "expected '{'"});
  expect_refused("{}", 0, {"\"descr\" is missing"});
  expect_refused("{'descr': '<f4', 'fortran_order': False}", 0, {"\"shape\" is missing"});
  expect_refused("{'descr': '<f4', 'shape': ()}", 4, {"\"fortran_order\" is missing"});
  expect_refused("{'descr': '<f4', 'descr': '<f4'}", 0, {"\"descr\" appears twice"});
  expect_refused("{'shape': (), 'shape': ()}", 0, {"\"shape\" appears twice"});
  expect_refused("{'order': 'C'}", 0, {"found key \"order\"", "expected descr, fortran_order and shape"});
  expect_refused("{'descr': '<f4", 0, {"expected a string that ends"});
  expect_refused("{'descr' '<f4'}", 0, {"expected ':'"});
  expect_refused("{'descr': '<f4' 'shape': ()}", 0, {"expected ',' or '}'"});
  expect_refused("{'fortran_order': 0}", 0, {"expected True or False"});
  expect_refused(with_shape("()") + "x", 4, {"expected the end of the header"});
  expect_refused(with_shape("3"), 12, {"expected '('"});
  expect_refused(with_shape("(3)"), 12, {"expected ','"});
  expect_refused(with_shape("[3]"), 12, {"expected '('"});
  expect_refused(with_shape("(,)"), 4, {"expected a non-negative integer"});
  expect_refused(with_shape("(-1,)"), 4, {"found \"-1,)", "expected a non-negative integer"});
  expect_refused(with_shape("(1.0,)"), 4, {"expected ','"});
  expect_refused(with_shape("(99999999999999999999,)"), 4, {"above 2^63 - 1"});
  expect_refused(with_shape("(4611686018427387904,)"), 4, {"[4611686018427387904] overflows"});
  expect_refused(with_shape("(0, 4294967296, 4294967296)"), 0, {"overflows"});
  expect_refused(with_shape("(1, 1, 1, 1, 1, 1, 1, 1, 1)"), 4, {"9 dimensions", "at most 8"}, ErrorKind::kUnsupported);
  for (const char* descr : {"<f2", "|b1", "<c8", "f4", "=f4", "<f4 ", ""}) {
    expect_refused(fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': (), }}", descr), 4,
                   {fmt::format("dtype \"{}\"", descr), "expected '<f4'"}, ErrorKind::kUnsupported);
  }
}

TEST(Npy, SizeOfTheData) {
  constexpr std::string_view kHeader = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
  expect_refused(kHeader, 23, {"truncated", "found 23 bytes of data", "expected 24", "[2, 3] of <f4"});
  expect_refused(kHeader, 0, {"truncated", "found 0 bytes"});
  expect_refused(kHeader, 25, {"found 25 bytes of data", "expected 24"});
}

TEST(Npy, MagicVersionAndLength) {
  const auto refuse = [](std::string_view file, const std::vector<std::string>& parts,
                         ErrorKind kind = ErrorKind::kBadInput) {
    expect_error(kind, parts, [&] { parse_npy(as_bytes(file), "a.npy"); });
  };
  refuse("", {"a.npy", "not an NPY file"});
  refuse("PK\x03\x04----", {"not an NPY file", "\"PK\\x03\\x04--\""});
  refuse("\x93NUMPY", {"ends within the version"});
  refuse(std::string_view("\x93NUMPY\x03\x00----", 12), {"version 3.0", "expected 1.0 or 2.0"},
         ErrorKind::kUnsupported);
  refuse(std::string_view("\x93NUMPY\x01\x01----", 12), {"version 1.1"}, ErrorKind::kUnsupported);
  refuse(std::string_view("\x93NUMPY\x01\x00\x01", 9), {"ends within the header's length"});
  refuse(std::string_view("\x93NUMPY\x02\x00\x01\x00\x00", 11), {"ends within the header's length"});
  refuse(std::string_view("\x93NUMPY\x01\x00\x05\x00{", 11), {"ends within the header"});
  refuse(std::string_view("\x93NUMPY\x02\x00\xff\xff\xff\xff{", 13), {"4294967295 bytes", "at most 10000"});
}

TEST(Npy, EveryTruncationIsRefused) {
  for (const char* name : {"f32_2x3.npy", "f32_version2.npy"}) {
    const std::string good = read_file(golden(std::string("npy/") + name));
    for (std::size_t size = 0; size < good.size(); ++size) {
      expect_error(
          ErrorKind::kBadInput, {"a.npy"}, [&] { parse_npy(as_bytes(good.substr(0, size)), "a.npy"); },
          testing::Message() << " at size " << size);
    }
  }
}

TEST(Npy, Mutants) {
  constexpr std::array<std::string_view, 16> kTokens = {"(",     ")",     "'",   ",",   "{",   "}",     ":",  "True",
                                                        "False", "shape", "<f8", "<i4", "999", "descr", "0,", "\""};
  const std::string good = read_file(golden("npy/f32_2x3.npy"));
  expect_sound_under_mutation(
      10000, "a.npy", [&](std::uint32_t number) { return mutant(good, number, kTokens); },
      [](const std::string& file) {
        const Tensor tensor = parse_npy(as_bytes(file), "a.npy");
        ASSERT_EQ(static_cast<Index>(tensor.bytes().size()), dtype_bytes(tensor.dtype(), tensor.numel()));
      });
}

}  // namespace
}  // namespace switchyard::formats
