#include <gtest/gtest.h>

#include "run_plan.h"

namespace thimble::testing {
namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("the test's pattern is not in the plan: " + from);
  return text.replace(at, from.size(), to);
}

TEST(PlanJson, RefusesATruncatedFile) {
  const std::string text = write_plan(two_programs(tiny_registry(), {4, 4}));
  for (std::size_t length = 0; length + 2 < text.size(); length += 50)
    EXPECT_THROW(read_plan(std::string_view(text).substr(0, length), "cut.json"), BadInput) << length;
}

TEST(PlanJson, RefusesWrongVersionsSizesIdsAndTypes) {
  const std::string text = write_plan(two_programs(tiny_registry(), {4, 4}));
  const std::vector<std::pair<std::string, std::string>> damages{
      {"\"version\":5", "\"version\":3"},
      {"\"calibration\":null", "\"calibration\":\"king\""},
      {"\"calibration\":null", "\"calibration\":7"},
      {"\"calibration\":null", "\"calibration\":null,\"calibration\":null"},
      {"\"format\":\"thimble-plan\"", "\"format\":\"other\""},
      {"\"arena_bytes\":", "\"arena_bytes\":99999999999999999999"},
      {"\"arena_bytes\":", "\"arena_bytes\":-1"},
      {"\"threads\":1", "\"threads\":1e400"},
      {"\"threads\":1", "\"threads\":0"},
      {"\"batch\":8", "\"batch\":\"8\""},
      {"\"batch\":8", "\"batch\":18446744073709551615"},
      {"\"shape\":[", "\"shape\":[0,"},
      {"\"shape\":[", "\"shape\":[4611686018427387904,"},
      {"\"shape\":[", "\"shape\":[1048576,1048576,1048576,"},
      {"\"dtype\":\"f32\"", "\"dtype\":\"f16\""},
      {"\"role\":\"weight\"", "\"role\":\"king\""},
      {"\"phase\":\"forward\"", "\"phase\":\"sideways\""},
      {"\"version_of\":-1", "\"version_of\":-2"},
      {"\"tensor\":0", "\"tensor\":-1"},
      {"\"tensor\":0", "\"tensor\":100000"},
      {"\"storage\":0", "\"storage\":2147483648"},
      {"\"workspace\":-1", "\"workspace\":4294967295"},
      {"\"op\":0", "\"op\":1.5"},
      {"\"begin\":0", "\"begin\":1000"},
      {"\"persistent\":true", "\"persistent\":1"},
      {"\"output\":false", "\"output\":null"},
      {"\"options\":{", "\"options\":[]}{"},
      {"\"attributes\":{", "\"attributes\":{\"a\":[],"},
      {"\"repeat\":[[0,4]", "\"repeat\":[[0]"},
      {"\"repeat\":[[0,4]", "\"repeat\":[[0,-4]"},
      {"\"model\":\"tiny\"", "\"model\":\"\xff\""},
      {"\"microbatches\":[", "\"microbatches\":{}["},
  };
  for (const auto& [from, to] : damages) {
    std::string wrong = replaced(text, from, to);
    if (from == "\"arena_bytes\":") {  // the number that follows goes
      const std::size_t digits = wrong.find(to) + to.size();
      wrong.erase(digits, wrong.find(',', digits) - digits);
    }
    EXPECT_THROW(read_plan(wrong, "wrong.json"), BadInput) << to;
  }
}

TEST(PlanJson, RefusesDeepNestingAndManyFields) {
  EXPECT_THROW(read_plan(std::string(1'000'000, '['), "deep.json"), BadInput);
  std::string deep = "[]";
  for (int i = 0; i < 40; ++i) deep = "[{\"repeat\":[[0,8]],\"body\":" + deep + "}]";
  const std::string text = write_plan(two_programs(tiny_registry()));
  EXPECT_THROW(read_plan(replaced(text, "\"order\":[", "\"order\":" + deep + ",\"was\":["), "deep.json"), BadInput);
  std::string fields = "{";
  for (int i = 0; i < 200'000; ++i) fields += "\"k" + std::to_string(i) + "\":0,";
  EXPECT_THROW(read_plan(fields + "\"z\":0}", "wide.json"), BadInput);
}

TEST(PlanJson, NamesTheFieldTheValueAndTheLimit) {
  const std::string text = replaced(write_plan(two_programs(tiny_registry())), "\"tensor\":0", "\"tensor\":-5");
  try {
    read_plan(text, "p.json");
    FAIL();
  } catch (const BadInput& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("instances[0].tensor"), std::string::npos) << message;
    EXPECT_NE(message.find("-5"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace thimble::testing
