#include "thimble/problem_csv.h"

#include <gtest/gtest.h>

#include <sstream>

#include "problems.h"
#include "thimble/error.h"

namespace thimble {
namespace {

using testing::buffer;

TEST(ProblemCsv, ReadsBuffers) {
  const ProblemFile file = read_problem_csv("id,lower,upper,size\na,0,3,100\nb,2,4,50\n", "x.csv");
  ASSERT_EQ(file.problem.buffers.size(), 2u);
  EXPECT_EQ(file.problem.buffers[1].name, "b");
  EXPECT_EQ(file.problem.buffers[1].lifetime, (Lifetime{Step{2}, Step{4}}));
  EXPECT_EQ(file.problem.buffers[1].size, Bytes{50});
  EXPECT_TRUE(file.offsets.empty());
}

TEST(ProblemCsv, TakesColumnsInAnyOrderAndWindowsLineEnds) {
  const ProblemFile file = read_problem_csv("size,id,offset,upper,lower\r\n100,a,64,3,0\r\n\r\n", "x.csv");
  EXPECT_EQ(file.problem.buffers.at(0).size, Bytes{100});
  EXPECT_EQ(file.offsets.at(0), Offset{64});
}

TEST(ProblemCsv, TakesEndAsInclusive) {
  const ProblemFile file = read_problem_csv("id,lower,end,size\na,0,2,1", "x.csv");
  EXPECT_EQ(file.problem.buffers.at(0).lifetime.end, Step{3});
}

TEST(ProblemCsv, RoundTrips) {
  const PlacementProblem problem{{buffer("a", 0, 3, 100), buffer("conv1.weight", 2, 2147483647, 0)}, Bytes{1}};
  for (const std::vector<Offset>& offsets : {std::vector<Offset>{}, std::vector<Offset>{Offset{0}, Offset{128}}}) {
    std::ostringstream out;
    write_problem_csv(out, problem, offsets);
    const ProblemFile file = read_problem_csv(out.str(), "x.csv");
    EXPECT_EQ(file.offsets, offsets);
    std::ostringstream again;
    write_problem_csv(again, file.problem, file.offsets);
    EXPECT_EQ(again.str(), out.str());
  }
}

TEST(ProblemCsv, WritesNothingItCouldNotReadBack) {
  std::ostringstream out;
  EXPECT_THROW(write_problem_csv(out, {{buffer("a,b", 0, 1, 1)}, Bytes{1}}), InvalidArgument);
  EXPECT_THROW(write_problem_csv(out, {{buffer("", 0, 1, 1)}, Bytes{1}}), InvalidArgument);
  EXPECT_THROW(write_problem_csv(out, {{buffer("a", 0, 1, 1)}, Bytes{1}}, {Offset{}, Offset{}}), InvalidArgument);
  EXPECT_TRUE(out.str().empty());
}

struct BadFile {
  const char* name;
  std::string text;
  std::string message;
};

class ProblemCsvRefuses : public ::testing::TestWithParam<BadFile> {};

TEST_P(ProblemCsvRefuses, NamingThePlaceTheValueAndTheLimit) {
  try {
    read_problem_csv(GetParam().text, "x.csv");
    FAIL() << "accepted";
  } catch (const BadInput& error) {
    EXPECT_EQ(std::string(error.what()), GetParam().message);
  }
}

const std::string kHeader = "id,lower,upper,size\n";
INSTANTIATE_TEST_SUITE_P(
    All, ProblemCsvRefuses,
    ::testing::Values(
        BadFile{"EmptyFile", "", "x.csv:0: the file is empty; expected the header id,lower,upper,size[,offset]"},
        BadFile{"MissingColumn", "id,lower,upper\n", "x.csv:1: column 'size' is missing"},
        BadFile{"NoEnd", "id,lower,size\n",
                "x.csv:1: exactly one of the columns 'upper' (exclusive) and 'end' (inclusive) is needed"},
        BadFile{"TwoEnds", "id,lower,upper,end,size\n",
                "x.csv:1: exactly one of the columns 'upper' (exclusive) and 'end' (inclusive) is needed"},
        BadFile{"UnknownColumn", "id,lower,upper,size,colour\n",
                "x.csv:1: unknown column 'colour'; known are id, lower, upper or end, size, offset"},
        BadFile{"DoubleColumn", "id,lower,upper,size,id\n", "x.csv:1: column 'id' comes twice"},
        BadFile{"FewFields", kHeader + "a,0,1\n", "x.csv:2: the line has 3 fields, the header 4"},
        BadFile{"ManyFields", kHeader + "a,0,1,1,1\n", "x.csv:2: the line has 5 fields, the header 4"},
        BadFile{"EmptyId", kHeader + ",0,1,1\n", "x.csv:2: column 'id' is empty"},
        BadFile{"DoubleId", kHeader + "a,0,1,1\na,0,1,1\n", "x.csv:3: column 'id': 'a' comes twice"},
        BadFile{"Word", kHeader + "a,0,1,big\n", "x.csv:2: column 'size': 'big' is not a whole number"},
        BadFile{"Fraction", kHeader + "a,0,1,1.5\n", "x.csv:2: column 'size': '1.5' is not a whole number"},
        BadFile{"EmptyNumber", kHeader + "a,,1,1\n", "x.csv:2: column 'lower': '' is not a whole number"},
        BadFile{"Escape", kHeader + "a,\x1b[2J,1,1\n", "x.csv:2: column 'lower': '?[2J' is not a whole number"},
        BadFile{"NegativeStep", kHeader + "a,-1,1,1\n", "x.csv:2: column 'lower': '-1' is outside 0..2147483647"},
        BadFile{"HugeStep", kHeader + "a,0,2147483648,1\n",
                "x.csv:2: column 'upper': '2147483648' is outside 0..2147483647"},
        BadFile{"NegativeSize", kHeader + "a,0,1,-5\n",
                "x.csv:2: column 'size': '-5' is outside 0..4611686018427387903"},
        BadFile{"HugeSize", kHeader + "a,0,1,99999999999999999999\n",
                "x.csv:2: column 'size': '99999999999999999999' is outside 0..4611686018427387903"},
        BadFile{"Backwards", kHeader + "a,5,3,1\n", "x.csv:2: buffer 'a' ends at step 3 before it begins at step 5"},
        BadFile{"HugeSum", kHeader + "a,0,1,4611686018427387903\nb,1,2,1\n",
                "x.csv:3: column 'size': '1' brings the sum of sizes to 2^62 or more"},
        BadFile{"NegativeOffset", "id,lower,upper,size,offset\na,0,1,1,-1\n",
                "x.csv:2: column 'offset': '-1' is outside 0..4611686018427387903"}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace thimble
