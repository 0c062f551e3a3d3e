// The executor: walks a checked plan inside one arena. Between the first and the last step it allocates nothing.
//
//   HostMemory memory;
//   Runtime runtime(plan, registry, memory, {.canaries = true});
//   runtime.persistent("w");                                  // span of the weight's bytes, to initialise or save
//   runtime.run("train", {.seed = 1, .step = 0, .learning_rate = 0.1f},
//               [&](ProgramView& inputs) { fill(inputs.samples(), inputs.bytes("images")); },
//               [&](ProgramView& outputs) { loss = outputs.as<float>("loss")[0]; });
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "thimble/arena.h"
#include "thimble/device.h"
#include "thimble/plan.h"

namespace thimble {

struct RuntimeOptions {
  bool poison = false;    ///< released bytes become NaN
  bool canaries = false;  ///< watch the free bytes beside every span
  bool check = true;      ///< run check_plan first
  bool capture = true;    ///< on a device: record a program in its second run, repeat the record from then on
};

/// The tensors a caller may touch: inputs before the steps that read them, outputs after the last step of a run.
class ProgramView {
 public:
  virtual ~ProgramView() = default;
  /// Which samples of the step's batch are at hand: those of one iteration where inputs are filled, all where outputs
  /// are read.
  virtual HalfOpen samples() const = 0;
  /// The samples at hand of an input (while filling) or output (while reading) of the program; all of it where it is
  /// not batched. Nothing of an input that the steps at hand do not read. Throws InvalidArgument for any other name.
  virtual std::span<std::byte> bytes(std::string_view name) = 0;
  template <class T>
  std::span<T> as(std::string_view name) {
    const std::span<std::byte> raw = bytes(name);
    return {reinterpret_cast<T*>(raw.data()), raw.size() / sizeof(T)};
  }
};

using ViewFunction = std::function<void(ProgramView&)>;

/// What the runtime did, in order: asked its arena for a span, gave one back, had the caller fill the inputs for
/// `samples`, or ran a step on them.
struct RuntimeEvent {
  enum class Kind : std::uint8_t { grant, release, fill, step };
  Kind kind = Kind::grant;
  std::string_view name;  ///< of the storage, or of the op; none where inputs are filled
  Offset offset{};        ///< grant, release
  Bytes size{};           ///< grant, release
  Step step{};            ///< step; fill: the step that comes next
  HalfOpen samples{};     ///< fill, step
};

class Runtime {
 public:
  /// Takes the arena and prepares every kernel. Throws BadInput with the checker's findings where the plan is not
  /// sound, EnvironmentError where memory cannot be had.
  Runtime(Plan plan, const OpRegistry& registry, Memory& memory, RuntimeOptions options = {});
  /// The same on a device: views and persistent bytes are copies in host memory, which the runtime keeps up to date.
  Runtime(Plan plan, const OpRegistry& registry, Device& device, RuntimeOptions options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const Plan& plan() const;
  Arena& arena();

  /// The unpadded bytes of a persistent tensor, to read and write; valid until the next run. Throws InvalidArgument for
  /// unknown names.
  std::span<std::byte> persistent(std::string_view name);

  /// Runs one program. `fill` writes the inputs before the first step; where the batch is cut, before the first step of
  /// every iteration of a repeat that reads inputs, for its samples only. In block-major order it is asked for the same
  /// samples of an input more than once, and has to give the same bytes. An input that is not batched keeps its bytes:
  /// writing it again has to give the same, too. `read` sees the outputs after the last step. A program without steps
  /// has nothing to fill. Throws Error where the high water differs from the plan.
  void run(std::string_view program, const StepScalars& scalars, const ViewFunction& fill, const ViewFunction& read);

  /// Whether the last run repeated a record of the device's work.
  bool was_captured() const;

  /// High water of the last run, measured from the spans granted while it ran, or while it was recorded.
  Bytes last_high_water() const;

  /// Called at every event of later runs, after a grant and before anything else; nullptr ends it.
  void set_event_listener(std::function<void(const RuntimeEvent&)> listener);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thimble
