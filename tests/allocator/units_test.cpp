#include "thimble/units.h"

#include <gtest/gtest.h>

#include <type_traits>

#include "thimble/error.h"

namespace thimble {
namespace {

using namespace literals;

template <class A, class B>
concept Addable = requires(A a, B b) {
  a + b;
};
static_assert(!Addable<Offset, Offset>, "a point plus a point is a mistake");
static_assert(Addable<Offset, Bytes>);
static_assert(std::is_same_v<decltype(Offset{} - Offset{}), Bytes>);

TEST(Units, ShowsRoundedAndExactBytes) {
  EXPECT_EQ(to_string(Bytes{39321600}), "37.5 MiB (39321600 bytes)");
  EXPECT_EQ(to_string(Bytes{500}), "500 bytes");
  EXPECT_EQ(to_string(Bytes{0}), "0 bytes");
  EXPECT_EQ(to_string(Bytes{-2048}), "-2.0 KiB (-2048 bytes)");
  EXPECT_EQ(to_string(Bytes{std::int64_t{4} << 30}), "4.0 GiB (4294967296 bytes)");
}

TEST(Units, ParsesDecimalAndBinarySizes) {
  EXPECT_EQ(parse_bytes("500000"), Bytes{500000});
  EXPECT_EQ(parse_bytes("640MB"), 640_MB);
  EXPECT_EQ(parse_bytes("8MiB"), 8_MiB);
  EXPECT_EQ(parse_bytes("1.5GiB"), 1536_MiB);
  EXPECT_EQ(parse_bytes("0"), 0_B);
  EXPECT_EQ(parse_bytes("0.000001MB"), 1_B);
  EXPECT_EQ(parse_bytes("4611686018427387903"), Bytes{(std::int64_t{1} << 62) - 1});
}

TEST(Units, RefusesWhatIsNoSize) {
  for (const char* text : {"", "-1", "+1", " 1", "1 MB", "MB", ".5MB", "1.MB", "1.5", "1mb", "1XB", "1e3", "0x10",
                           "1.1234567MB", "4611686018427387904", "99999999999999999999", "4194304TiB"})
    EXPECT_THROW(parse_bytes(text), InvalidArgument) << text;
}

TEST(Units, ErrorNamesTheValueAndTheFix) {
  try {
    parse_bytes("12XB");
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "size: '12XB' has an unknown unit; write a number of bytes such as 500000, 640MB, 8MiB or 1.5GiB");
  }
}

TEST(Units, AlignsUp) {
  EXPECT_EQ(align_up(Bytes{0}, 64_B), 0_B);
  EXPECT_EQ(align_up(Bytes{1}, 64_B), 64_B);
  EXPECT_EQ(align_up(Offset{64}, 64_B), Offset{64});
}

TEST(IdVector, IsIndexedByItsIdOnly) {
  enum class Id : std::int32_t {};
  IdVector<Id, int> values;
  const Id first = values.push_back(7);
  EXPECT_EQ(values[first], 7);
  EXPECT_TRUE(values.contains(first));
  EXPECT_FALSE(values.contains(Id{1}));
  EXPECT_FALSE(values.contains(Id{-1}));
  EXPECT_THROW(values.at(Id{1}), std::out_of_range);
}

}  // namespace
}  // namespace thimble
