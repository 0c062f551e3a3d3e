// One row per case of an op. The tests of op_table_test.cpp run every row.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "thimble/graph.h"

namespace thimble::testing {

enum class Fill { normal, positive, labels, lengths, constant, bytes, shifts };

struct RowInput {
  std::vector<std::int64_t> shape;
  bool batched = false;
  Fill fill = Fill::normal;
  std::int64_t limit = 3;  // labels are below it; lengths up to it, the first three being 1, all of it and 0; a
                           // constant; shifts are from -limit to it
  int lengths = -1;  // index of the input that says how many rows of each sample are there: the others are NaN
};

struct Row {
  std::string name;
  std::string kind;
  std::vector<RowInput> inputs;
  Attributes attributes;
  double tolerance;    // of the largest value of the tensor compared
  const char* reason;  // why the tolerance is what it is
  std::uint64_t seed;
  bool output_is_kept = false;  // whether another backward op reads the output anyway
  double offset = 0;            // added to the first input
  bool first_microbatch = true;
  int output_lengths = -1;  // the same for the gradient of output 0
};

inline std::ostream& operator<<(std::ostream& out, const Row& row) { return out << row.name; }

std::vector<Row> op_table();

}  // namespace thimble::testing
