#include "thimble/safetensors.h"

#include "temporary_folder.h"
#include "thimble/error.h"

namespace thimble {
namespace {

std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return bytes + header + std::string(data_bytes, 'x');
}

SafetensorsHeader parse(const std::string& header, std::size_t data_bytes) {
  const std::string file = file_of(header, data_bytes);
  return parse_safetensors(file, static_cast<std::int64_t>(file.size()), "t");
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  TemporaryFolder folder;
  const std::vector<float> weights{1, -2.5f, 3, 4, 5, 6};
  const std::vector<std::int64_t> counts{1LL << 40, -7};
  const float scalar = 42;
  const std::string path = folder.file("a.safetensors");
  write_safetensors(path,
                    std::vector<SafetensorsTensor>{{"w", "F32", {2, 3}, std::as_bytes(std::span(weights))},
                                                   {"scalar", "F32", {}, std::as_bytes(std::span(&scalar, 1))},
                                                   {"empty", "F32", {0, 3}, {}},
                                                   {"n", "I64", {2}, std::as_bytes(std::span(counts))}},
                    {{"step", "7"}, {"quote\"", "\u00e4"}});
  EXPECT_EQ(folder.file_count(), 1u);  // no temporary file is left
  const SafetensorsReader file(path);
  EXPECT_EQ(file.header().metadata, (std::map<std::string, std::string>{{"step", "7"}, {"quote\"", "\u00e4"}}));
  ASSERT_EQ(file.header().tensors.size(), 4u);
  EXPECT_EQ(file.header().data_begin % 8, 0);
  std::vector<float> w(6);
  std::vector<std::int64_t> n(2);
  float s = 0;
  file.read(*file.header().find("w"), std::as_writable_bytes(std::span(w)));
  file.read(*file.header().find("n"), std::as_writable_bytes(std::span(n)));
  file.read(*file.header().find("scalar"), std::as_writable_bytes(std::span(&s, 1)));
  EXPECT_EQ(w, weights);
  EXPECT_EQ(n, counts);
  EXPECT_EQ(s, 42);
  EXPECT_EQ(file.header().find("w")->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.header().find("nobody"), nullptr);
  EXPECT_THROW(file.read(*file.header().find("w"), std::as_writable_bytes(std::span(n))), InvalidArgument);
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
  EXPECT_EQ(parse("{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}      ", 4).tensors.size(), 1u);
  // The order of keys is free; the order of bytes is what counts.
  const auto header = parse(
      R"({"b":{"shape":[1],"data_offsets":[4,8],"dtype":"F32"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
      8);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[1].name, "b");
}

struct Damage {
  const char* what;
  const char* header;
  std::size_t data_bytes;
  const char* message;  // part of it
};

TEST(Safetensors, RefusesEveryDamage) {
  const Damage damages[] = {
      {"hole at the start", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "hole"},
      {"hole between",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, "hole"},
      {"overlap",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "overlap"},
      {"same bytes twice",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, "overlap"},
      {"bytes left over", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5, "the tensors end at 4"},
      {"only data", "{}", 5, "the tensors end at 0"},
      {"past the end", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7, "has 7 bytes of data"},
      {"backwards", R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[4,0]}})", 4, "ends before it begins"},
      {"size against shape", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "need 12 bytes"},
      {"overflowing shape", R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "2^63"},
      {"number too large", R"({"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,0]}})", 0, "2^62"},
      {"number beyond 64 bits", R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,0]}})", 0,
       "99999999999999999999"},
      {"negative extent", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "-1"},
      {"fraction", R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "1.0"},
      {"key twice",
       R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
       0, "'a' comes twice"},
      {"field twice", R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0,
       "'dtype' comes twice"},
      {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", 0, "'__metadata__' comes twice"},
      {"metadata key twice", R"({"__metadata__":{"k":"1","k":"2"}})", 0, "'k' comes twice"},
      {"metadata that is no string", R"({"__metadata__":{"k":1}})", 0, "'k' holds 1"},
      {"metadata that is nested", R"({"__metadata__":{"k":{}}})", 0, "an object"},
      {"metadata that is no object", R"({"__metadata__":"k"})", 0, "a string"},
      {"unknown type", R"({"a":{"dtype":"F31","shape":[0],"data_offsets":[0,0]}})", 0, "F31"},
      {"unknown field", R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}})", 0, "'x' is unknown"},
      {"missing dtype", R"({"a":{"shape":[0],"data_offsets":[0,0]}})", 0, "no 'dtype'"},
      {"missing offsets", R"({"a":{"dtype":"U8","shape":[0]}})", 0, "no 'data_offsets'"},
      {"missing shape", R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", 0, "no 'shape'"},
      {"three offsets", R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}})", 0, "has 3 numbers"},
      {"nested array", R"({"a":{"dtype":"U8","shape":[[0]],"data_offsets":[0,0]}})", 0, "an array"},
      {"object in an array", R"({"a":{"dtype":"U8","shape":[{}],"data_offsets":[0,0]}})", 0, "an object"},
      {"shape as text", R"({"a":{"dtype":"U8","shape":"0","data_offsets":[0,0]}})", 0, "a string"},
      {"null", R"({"a":null})", 0, "null"},
      {"array at the top", R"([])", 0, "begin with '{'"},
      {"space before", R"( {})", 0, "begin with '{'"},
      {"cut JSON", R"({"a":{"dtype":"U8")", 0, "no JSON"},
      {"something behind", R"({}{})", 0, "no JSON"},
      {"no UTF-8", "{\"\xff\":{}}", 0, "no JSON"},
  };
  for (const Damage& damage : damages) {
    const std::string message = message_of<BadInput>([&] { parse(damage.header, damage.data_bytes); });
    EXPECT_TRUE(holds(message, damage.message)) << damage.what << ": " << message;
  }
}

TEST(Safetensors, RefusesDepthWithoutRecursion) {
  std::string deep = "{\"a\":";
  for (int i = 0; i < 1'000'000; ++i) deep += "{\"a\":";
  EXPECT_THROW(parse(deep, 0), BadInput);
}

TEST(Safetensors, RefusesLengthsThatLie) {
  const auto refused = [](std::uint64_t length, const char* part) {
    std::string file(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i) & 0xff);
    file += "{}";
    TemporaryFolder folder;
    folder.write("f", file);
    const std::string message = message_of<BadInput>([&] { SafetensorsReader{folder.file("f")}; });
    EXPECT_TRUE(holds(message, part)) << message;
  };
  refused(3, "the file ends after 2");
  refused(100'000'000, "the file ends after 2");
  refused(100'000'001, "the limit is 100000000");
  refused(~std::uint64_t{0}, "the limit is 100000000");
  refused(0, "begin with '{'");
  EXPECT_THROW(parse_safetensors("short", 5, "t"), BadInput);
}

TEST(Safetensors, RefusesFilesThatAreNotThere) {
  TemporaryFolder folder;
  EXPECT_THROW(SafetensorsReader{folder.file("none")}, EnvironmentError);
  EXPECT_THROW(SafetensorsReader{folder.path()}, EnvironmentError);
}

TEST(Safetensors, NoticesAFileThatBecameShorter) {
  TemporaryFolder folder;
  folder.write("f", file_of(R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}})", 9));
  const SafetensorsReader file(folder.file("f"));
  std::filesystem::resize_file(folder.file("f"), 60);
  std::vector<std::byte> room(9);
  EXPECT_THROW(file.read(file.header().tensors[0], room), BadInput);
}

TEST(Safetensors, WritesNothingThatItWouldRefuse) {
  TemporaryFolder folder;
  const std::string path = folder.file("f");
  folder.write("f", "old");
  const std::vector<std::byte> four(4);
  const auto refused = [&](std::vector<SafetensorsTensor> tensors, std::map<std::string, std::string> metadata = {}) {
    EXPECT_THROW(write_safetensors(path, tensors, metadata), InvalidArgument);
  };
  refused({{"a", "F32", {2}, four}});
  refused({{"a", "F32", {-1}, four}});
  refused({{"a", "F32", {1}, four}, {"a", "F32", {1}, four}});
  refused({{"__metadata__", "F32", {1}, four}});
  refused({{"\xff", "F32", {1}, four}});
  refused({}, {{"k", "\xff"}});
  EXPECT_THROW(write_safetensors(path, std::vector<NamedBytes>{{"m", {DType::bit, {32}}, four}}, {}), InvalidArgument);
  EXPECT_THROW(write_safetensors(folder.file("no/such/folder"), std::vector<NamedBytes>{}, {}), EnvironmentError);
  std::filesystem::create_directories(folder.file("taken/inside"));  // the rename fails after everything is written
  EXPECT_THROW(write_safetensors(folder.file("taken"), std::vector<NamedBytes>{}, {}), EnvironmentError);
  std::filesystem::remove_all(folder.file("taken"));
  EXPECT_EQ(std::filesystem::file_size(path), 3u);
  EXPECT_EQ(folder.file_count(), 1u);
}

}  // namespace
}  // namespace thimble
