// How ops reach the scheduler: by kind, through functions that ops/ or a user registers.
//
//   OpDefinition scale;
//   scale.kind = "scale";
//   scale.infer = [](const std::vector<TensorType>& in, const Attributes&) { return outputs_like(in[0]); };
//   scale.gradient = [](GradientContext& g) { g.set_input_gradient(0, g.emit("scale", {g.output_gradient(0)})); };
//   scale.make_kernel = [](const OpShape& s) { return std::make_unique<ScaleKernel>(s); };
//   registry.add(scale);
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "thimble/graph.h"

namespace thimble {

/// The machine a plan is made for.
struct DeviceDescription {
  std::string name = "cpu";
  std::string backend = "cpu";  ///< whose kernels run: those of an OpDefinition, or those added under this name
  int threads = 1;
  double flops_per_second = 1.1e11;  ///< of one thread
  double bytes_per_second = 2.0e10;  ///< of the whole device
  double seconds_per_launch = 1e-5;  ///< of one op, whatever its size
  /// What convolutions and matrix products compute in: "fp32", or "tf32" on a device's tensor cores.
  std::string math = "fp32";
  auto operator<=>(const DeviceDescription&) const = default;
};

/// One op with the shapes it runs on: batched types carry the samples of the (micro)batch at hand.
struct OpShape {
  std::vector<TensorType> inputs;
  std::vector<TensorType> outputs;
  Attributes attributes;
  DeviceDescription device;
  auto operator<=>(const OpShape&) const = default;
};

struct OutputSpec {
  std::string suffix;  ///< "" for the main output
  TensorType type;
  Role role = Role::activation;
  int version_of_input = -1;  ///< index of the input this output is an updated version of (same storage)
};

struct OpCost {
  double flops = 0;       ///< 2 per multiply-add of convolutions and matrix products; element-wise work is left out
  double bytes = 0;       ///< read and written
  double idle_flops = 0;  ///< left undone meanwhile where vectors are not full: time, not work
  double launches = 1;    ///< that take their time whatever the sizes: of one after the other, of long ones several
};

/// Roofline: the longer of computing and moving bytes, plus the launches.
double predicted_seconds(const OpCost& cost, const DeviceDescription& device);

struct HalfOpen {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const HalfOpen&) const = default;
};

/// Scalars of one training step; on a device they live in device memory.
struct StepScalars {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  float learning_rate = 0;
  std::int64_t loss_terms = 0;  ///< what a loss over tokens is the mean of: those of all sentences of the step
};

/// What a kernel gets: addresses inside the arena, nothing it has to free.
struct KernelArguments {
  std::span<const std::byte* const> inputs;
  std::span<std::byte* const> outputs;
  std::byte* workspace = nullptr;        ///< as many bytes as `workspace` booked, aligned to kAlignment
  const StepScalars* scalars = nullptr;  ///< in the device's memory, as all else
  HalfOpen samples;                      ///< which samples of the step's batch this microbatch holds
  std::int64_t batch = 0;                ///< samples of the whole step: means are taken over these
  bool first_microbatch = true;          ///< accumulating ops overwrite instead of adding
  void* stream = nullptr;                ///< where a device's work is enqueued (`Device::stream`); the CPU has none
};

/// A kernel prepared for one OpShape. `run` allocates nothing.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(const KernelArguments& arguments) = 0;
};

class GradientContext;

struct InPlacePair {
  int input = 0;
  int output = 0;
};

/// What runs an op on one kind of device.
struct OpKernels {
  std::function<Bytes(const OpShape&)> workspace;  ///< empty: none
  std::function<std::unique_ptr<Kernel>(const OpShape&)> make_kernel;
  /// Other attributes of the same op that take more workspace and less time, for what a plan leaves below its peak;
  /// values may differ in rounding. Empty: there are none.
  std::function<std::vector<Attributes>(const OpShape&)> faster = {};
  std::function<OpCost(const OpShape&)> cost = {};  ///< empty: the op's
};

struct OpDefinition {
  std::string kind;
  /// Output types from input types; throws InvalidArgument, naming the kind, where they do not fit.
  std::function<std::vector<OutputSpec>(const std::vector<TensorType>&, const Attributes&)> infer;
  /// Emits the ops that compute input gradients. Empty: gradients stop here.
  std::function<void(GradientContext&)> gradient;
  std::function<OpCost(const OpShape&)> cost;  ///< empty: bytes of inputs and outputs, no FLOPs
  // On the CPU, as in OpKernels.
  std::function<Bytes(const OpShape&)> workspace;
  std::function<std::unique_ptr<Kernel>(const OpShape&)> make_kernel;
  std::function<std::vector<Attributes>(const OpShape&)> faster;
  /// The output may take the input's storage where that dies here and both are as many bytes; inputs and
  /// outputs that an op lacks do not count.
  std::vector<InPlacePair> in_place;
  bool view = false;         ///< output 0 is the bytes of input 0 under another shape; no kernel runs
  bool once = false;         ///< changes state: never recomputed
  bool accumulates = false;  ///< output 0 sums over microbatches, keeping its storage between them
  /// Has an output, `accumulated_output`, that with the attribute kAccumulates sums over microbatches, and with
  /// kAddsToLast is added to the last input (one more than without), as a new version of that.
  bool may_accumulate = false;
  int accumulated_output = 0;
  /// Fills input `i`, of integers, with what makes the op do all that it may, as full sentences do: to be measured.
  /// Empty means zeros, which are a class, a token, a mask.
  std::function<void(const OpShape&, std::size_t, std::span<std::int32_t>)> fullest = {};
  /// Of an op that adds input 0, in every microbatch, to what its output is a version of: the kind that does the rest
  /// of it in the first microbatch. Takes the other inputs.
  std::string first_part = {};
};

/// A way to compute the same with other ops, which a planner may choose by name: other bytes, other bits, one meaning.
struct GraphRewrite {
  std::string name;
  std::function<Graph(const Graph&, const OpRegistry&)> apply;  ///< the graph itself where nothing matches
};

/// The scheduler's own kind: `accumulate(g) -> sum` adds g over the microbatches of a step.
inline constexpr const char* kAccumulateKind = "accumulate";

/// What `accumulate_over_microbatches` asks of an op that may.
inline constexpr const char* kAccumulates = "accumulates";
inline constexpr const char* kAddsToLast = "adds_to_last";

class OpRegistry {
 public:
  /// Throws InvalidArgument for a kind registered twice or without infer.
  void add(OpDefinition definition);
  /// Throws InvalidArgument that names the unknown kind.
  const OpDefinition& at(const std::string& kind) const;
  bool contains(const std::string& kind) const { return definitions_.count(kind) != 0; }
  std::vector<std::string> kinds() const;
  /// Kernels of a kind for devices of another backend than "cpu". Throws InvalidArgument for an unknown kind and for
  /// kernels added twice.
  void add_kernels(const std::string& kind, const std::string& backend, OpKernels kernels);
  bool has_kernels(const std::string& kind, const std::string& backend) const;
  /// Throws InvalidArgument for a name registered twice or without a function.
  void add_rewrite(GraphRewrite rewrite);
  /// Whether one of its outputs sums over microbatches, and whether this one does.
  bool accumulates(const Op& op) const;
  bool accumulates(const Op& op, std::size_t output) const;
  /// In the order they were added.
  const std::vector<GraphRewrite>& rewrites() const { return rewrites_; }
  /// Throws InvalidArgument that names those there are.
  const GraphRewrite& rewrite(const std::string& name) const;
  /// Facts that change bits (library versions, instruction set); part of every plan's arithmetic.
  void set_engine(const std::string& name, const std::string& version, const std::string& backend = "cpu") {
    engines_[backend][name] = version;
  }
  const std::map<std::string, std::string>& engines(const DeviceDescription& device) const;

  // Of an op on the device that the shape names; each throws InvalidArgument where that has no kernels for the kind.
  OpCost cost(const std::string& kind, const OpShape& shape) const;
  Bytes workspace(const std::string& kind, const OpShape& shape) const;
  std::vector<Attributes> faster(const std::string& kind, const OpShape& shape) const;
  std::unique_ptr<Kernel> make_kernel(const std::string& kind, const OpShape& shape) const;

 private:
  const OpKernels& kernels_of(const std::string& kind, const DeviceDescription& device) const;

  std::unordered_map<std::string, OpDefinition> definitions_;
  std::map<std::string, std::unordered_map<std::string, OpKernels>> kernels_;  // by backend, then kind
  std::vector<GraphRewrite> rewrites_;
  std::map<std::string, std::map<std::string, std::string>> engines_;  // by backend
};

/// What a gradient rule sees and may do. Made by `differentiate`.
class GradientContext {
 public:
  virtual ~GradientContext() = default;
  virtual const Op& op() const = 0;
  virtual const TensorType& type(TensorId tensor) const = 0;
  TensorId input(int i) const { return op().inputs.at(static_cast<std::size_t>(i)); }
  TensorId output(int i) const { return op().outputs.at(static_cast<std::size_t>(i)); }
  /// kNoTensor where nothing downstream needs it, and for the loss itself (whose gradient is one).
  virtual TensorId output_gradient(int i) const = 0;
  virtual bool wants_input_gradient(int i) const = 0;
  virtual void set_input_gradient(int i, TensorId gradient) = 0;
  /// Appends a backward op named `<forward op>.<suffix>` and returns its outputs.
  virtual std::vector<TensorId> emit(const std::string& kind, const std::string& suffix, std::vector<TensorId> inputs,
                                     Attributes attributes = {}) = 0;
  /// Whether a backward op emitted so far reads this forward value, so that it is kept anyway.
  virtual bool is_kept(TensorId tensor) const = 0;
  /// Sets an attribute of the forward op; the registry infers again and outputs it gained are appended.
  virtual void change_forward(const std::string& attribute, Attribute value) = 0;
};

/// One unnamed output of the given type.
std::vector<OutputSpec> outputs_like(TensorType type);

}  // namespace thimble
