// Allocation problems as CSV: `id,lower,upper,size[,offset]`, MiniMalloc's format; lifetimes are half-open.
//
//   PlacementProblem problem = read_problem_csv(text, "resnet50.csv");
//   write_problem_csv(out, problem, place_buffers(problem).offsets);
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "thimble/placement.h"

namespace thimble {

struct ProblemFile {
  PlacementProblem problem;
  std::vector<Offset> offsets;  ///< one per buffer where the file has the column `offset`, else empty
};

/// Columns may come in any order; `end` is accepted as an inclusive upper bound, as MiniMalloc does.
/// Throws BadInput with `name`, line, column, value and limit: missing columns, non-numbers, numbers beyond
/// their range, a lifetime that ends before it begins, duplicate ids, a sum of sizes of 2^62 or more.
ProblemFile read_problem_csv(std::string_view text, std::string_view name);

/// Writes the header and one line per buffer in the problem's order; with `offsets` a fifth column.
void write_problem_csv(std::ostream& out, const PlacementProblem& problem, const std::vector<Offset>& offsets = {});

}  // namespace thimble
