// What rows of the op table are written with.
#pragma once

#include "op_table.h"
#include "thimble/op_registry.h"

namespace thimble::testing {

using Shape = std::vector<std::int64_t>;

inline RowInput samples(Shape shape) { return {std::move(shape), true, Fill::normal}; }
inline RowInput weights(Shape shape) { return {std::move(shape), false, Fill::normal}; }
inline RowInput positive(Shape shape) { return {std::move(shape), false, Fill::positive}; }
inline RowInput labels(std::int64_t count) { return {{count}, true, Fill::labels}; }

inline constexpr const char* kSums = "float sums of up to some thousand products, each rounded to 6e-8";
inline constexpr const char* kFewRoundings = "a handful of float roundings of 6e-8";
inline constexpr const char* kLargeMean = "x - mean loses what the mean rounds away: 6e-8 of 100 deviations";
inline constexpr const char* kExact = "one rounding, or none";

/// Rows of ops on sentences.
void add_token_rows(std::vector<Row>& rows);

}  // namespace thimble::testing
