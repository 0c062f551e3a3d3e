// What ops really take on this machine: measured once, kept in a file, an input of every plan that is made with it.
//
//   auto table = std::make_shared<const CalibrationTable>(calibrate(variants, registry));
//   for (PlanRequest& variant : variants) variant.calibration = table;
//   Frontier frontier(variants, registry);   // fastest by what was measured; plans name the table by its hash
//
// An op whose shapes the table lacks is priced by the roofline of its device (`predicted_seconds`).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "thimble/device.h"
#include "thimble/op_registry.h"
#include "thimble/plan.h"

namespace thimble {

/// Where times were measured. They hold nowhere else.
struct CalibrationPlace {
  std::string device;
  int threads = 1;
  std::string processor;
  std::map<std::string, std::string> engines;
  bool operator==(const CalibrationPlace&) const = default;
};
CalibrationPlace this_place(const DeviceDescription& device, const OpRegistry& registry);

/// One op with the samples at hand, as in OpShape.
struct CalibrationEntry {
  std::string kind;
  Attributes attributes;
  std::vector<TensorType> inputs;
  std::vector<TensorType> outputs;
  double seconds = 0;
  bool operator==(const CalibrationEntry&) const = default;
};

/// Canonical text of all but the seconds: what is measured once has one.
std::string calibration_key(const CalibrationEntry& entry);

class CalibrationTable {
 public:
  static constexpr int kVersion = 1;
  static constexpr double kMostSeconds = 3600;  ///< of one op

  /// Throws InvalidArgument for seconds outside (0, kMostSeconds] and for an op listed twice.
  CalibrationTable(CalibrationPlace place, std::vector<CalibrationEntry> entries);

  /// Nothing where the op was not measured with these shapes, attributes and threads.
  std::optional<double> seconds(const std::string& kind, const OpShape& shape) const;
  const CalibrationPlace& place() const { return place_; }
  /// In an order that does not depend on how they were listed.
  const std::vector<CalibrationEntry>& entries() const { return entries_; }
  /// 32 hexadecimal digits, of place and entries.
  const std::string& hash() const { return hash_; }

 private:
  CalibrationPlace place_;
  std::vector<CalibrationEntry> entries_;
  std::map<std::string, double> seconds_;
  std::string hash_;
};

/// JSON, versioned. `read_calibration` takes hostile text and throws BadInput that names the thing, its value and the
/// limit; a table of another place than `here` is refused too.
std::string write_calibration(const CalibrationTable& table);
CalibrationTable read_calibration(std::string_view text, std::string_view name, const CalibrationPlace& here);

/// Runs the kernel of every op that the variants' first programs hold, for every size of part of their cuts and for
/// the whole batch, each shape once in each of some rounds, and keeps the lower quartile. On the CPU (no `device`) the
/// caches hold before a run what a step would have left there; on a device, which has to be the variants', a run is a
/// launch of as many recorded runs as take a millisecond. Takes memory of its own there, as much as the largest op
/// needs, and 64 MiB. Views and ops without a kernel are left out. Throws InvalidArgument where there is no variant, or
/// where it is for another kind of device.
CalibrationTable calibrate(const std::vector<PlanRequest>& variants, const OpRegistry& registry,
                           Device* device = nullptr);

/// How many of the shapes that `calibrate` would measure the table lacks.
std::size_t count_unmeasured(const CalibrationTable& table, const std::vector<PlanRequest>& variants,
                             const OpRegistry& registry);

/// Measured where `table` (may be null) has the op, else the roofline's. A view takes no time.
double op_seconds(const std::string& kind, const OpShape& shape, const OpRegistry& registry,
                  const CalibrationTable* table);

}  // namespace thimble
