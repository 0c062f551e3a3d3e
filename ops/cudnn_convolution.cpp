#include "cudnn_convolution.h"

#include <cudnn_graph.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "thimble/error.h"

namespace thimble {
namespace {

// What is used of the library; it is opened, not linked.
struct Api {
  decltype(&cudnnGetVersion) get_version;
  decltype(&cudnnGetErrorString) get_error_string;
  decltype(&cudnnCreate) create;
  decltype(&cudnnDestroy) destroy;
  decltype(&cudnnSetStream) set_stream;
  decltype(&cudnnBackendCreateDescriptor) create_descriptor;
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor;
  decltype(&cudnnBackendFinalize) finalize;
  decltype(&cudnnBackendSetAttribute) set;
  decltype(&cudnnBackendGetAttribute) get;
  decltype(&cudnnBackendExecute) execute;

  bool load(std::string& reason) {
    void* library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      reason = dlerror();
      return false;
    }
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      if (function == nullptr) reason = std::string("libcudnn.so.9 has no ") + name;
      return function != nullptr;
    };
    return find(get_version, "cudnnGetVersion") && find(get_error_string, "cudnnGetErrorString") &&
           find(create, "cudnnCreate") && find(destroy, "cudnnDestroy") && find(set_stream, "cudnnSetStream") &&
           find(create_descriptor, "cudnnBackendCreateDescriptor") &&
           find(destroy_descriptor, "cudnnBackendDestroyDescriptor") && find(finalize, "cudnnBackendFinalize") &&
           find(set, "cudnnBackendSetAttribute") && find(get, "cudnnBackendGetAttribute") &&
           find(execute, "cudnnBackendExecute");
  }
};

const Api& api(std::string* reason = nullptr) {
  static std::string why;
  static Api loaded;
  static const bool is_there = loaded.load(why);
  if (reason) *reason = is_there ? "" : why;
  return loaded;
}

void expect(cudnnStatus_t status, const char* what) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw EnvironmentError(std::string("cudnn: ") + what + ": " + api().get_error_string(status));
}

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type) {
    expect(api().create_descriptor(type, &descriptor_), "a descriptor");
  }
  Descriptor(Descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, nullptr)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (descriptor_) api().destroy_descriptor(descriptor_);
  }
  cudnnBackendDescriptor_t get() const { return descriptor_; }

  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T& value) {
    expect(api().set(descriptor_, name, type, 1, &value), "an attribute");
  }
  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    expect(api().set(descriptor_, name, type, static_cast<std::int64_t>(values.size()), values.data()), "attributes");
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& other) {
    const cudnnBackendDescriptor_t raw = other.get();
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw);
  }
  bool is_finalized() { return api().finalize(descriptor_) == CUDNN_STATUS_SUCCESS; }
  void finalize(const char* what) { expect(api().finalize(descriptor_), what); }

  template <class T>
  std::vector<T> get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) const {
    std::int64_t count = 0;
    if (api().get(descriptor_, name, type, 0, &count, nullptr) != CUDNN_STATUS_SUCCESS || count <= 0) return {};
    std::vector<T> values(static_cast<std::size_t>(count));
    expect(api().get(descriptor_, name, type, count, &count, values.data()), "values");
    values.resize(static_cast<std::size_t>(count));
    return values;
  }
  // Descriptors come as copies into descriptors that are there already.
  std::vector<Descriptor> get(cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                              std::int64_t most) const {
    std::vector<Descriptor> all;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (std::int64_t i = 0; i < most; ++i) raw.push_back(all.emplace_back(type).get());
    std::int64_t count = 0;
    expect(api().get(descriptor_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, most, &count, raw.data()), "descriptors");
    while (static_cast<std::int64_t>(all.size()) > count) all.pop_back();
    return all;
  }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

enum Id : std::int64_t { kX = 1, kW = 2, kY = 3 };

// Dimensions in cuDNN's order {n, c, h, w}, strides of channels last.
Descriptor tensor(Id id, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  Descriptor made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  made.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, std::vector<std::int64_t>{n, c, h, w});
  made.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, std::vector<std::int64_t>{h * w * c, 1, w * c, c});
  made.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, static_cast<std::int64_t>(id));
  made.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16});
  made.finalize("a tensor");
  return made;
}

struct OperationNames {
  cudnnBackendDescriptorType_t type;
  cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
};

OperationNames names_of(CudnnPass pass) {
  if (pass == CudnnPass::forward)
    return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
  if (pass == CudnnPass::backward_data)
    return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

// The graph of one operation, with all that it is made of.
struct OperationGraph {
  Descriptor x, w, y, convolution, operation, graph;

  OperationGraph(const CudnnProblem& p, cudnnHandle_t handle)
      : x(tensor(kX, p.n, p.c, p.h, p.w)),
        w(tensor(kW, p.k, p.c, p.r, p.s)),
        y(tensor(kY, p.n, p.k, p.out_h, p.out_w)),
        convolution(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR),
        operation(names_of(p.pass).type),
        graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
    const std::vector<std::int64_t> pads{p.pad, p.pad}, strides{p.stride, p.stride}, ones{1, 1};
    convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    convolution.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
    convolution.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2});
    convolution.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, pads);
    convolution.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, pads);
    convolution.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, strides);
    convolution.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, ones);
    convolution.finalize("a convolution");
    const OperationNames names = names_of(p.pass);
    operation.set(names.convolution, convolution);
    operation.set(names.x, x);
    operation.set(names.w, w);
    operation.set(names.y, y);
    operation.set(names.alpha, CUDNN_TYPE_FLOAT, 1.0f);
    operation.set(names.beta, CUDNN_TYPE_FLOAT, 0.0f);
    operation.finalize("an operation");
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
    if (handle) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle);
    graph.finalize("an operation graph");
  }
};

// cuDNN's handle, or the description of a device that is not there.
struct Target {
  cudnnHandle_t handle = nullptr;
  std::unique_ptr<Descriptor> properties;

  void apply(Descriptor& to, cudnnBackendAttributeName_t properties_name) const {
    if (properties) to.set(properties_name, *properties);
  }
};

bool has_note(const Descriptor& engine, cudnnBackendNumericalNote_t note) {
  const auto notes =
      engine.get<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE);
  return std::find(notes.begin(), notes.end(), note) != notes.end();
}

// Whether it gives the same bits every time and computes in what is asked for.
bool is_wanted(const Descriptor& engine, bool tf32) {
  if (has_note(engine, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) || has_note(engine, CUDNN_NUMERICAL_NOTE_WINOGRAD) ||
      has_note(engine, CUDNN_NUMERICAL_NOTE_FFT))
    return false;
  return tf32 || !has_note(engine, CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
}

std::string name_of(const Descriptor& config, std::int64_t index) {
  std::string name = std::to_string(index);
  char separator = ':';
  for (const Descriptor& choice :
       config.get(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS)) {
    const auto type = choice.get<cudnnBackendKnobType_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE);
    const auto value = choice.get<std::int64_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64);
    if (type.empty() || value.empty()) continue;
    name += separator + std::to_string(static_cast<int>(type[0])) + "=" + std::to_string(value[0]);
    separator = ',';
  }
  return name;
}

class Convolution final : public CudnnConvolution {
 public:
  Convolution(const CudnnProblem& problem, const std::string& engine, const Target& target)
      : problem_(problem),
        handle_(target.handle),
        graph_(problem, target.handle),
        engine_(CUDNN_BACKEND_ENGINE_DESCRIPTOR),
        config_(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR),
        plan_(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
    const char* at = engine.c_str();
    char* end = nullptr;
    const std::int64_t index = std::strtoll(at, &end, 10);
    if (end == at) throw EnvironmentError("cudnn: '" + engine + "' is no engine");
    engine_.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph_.graph);
    engine_.set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, index);
    target.apply(engine_, CUDNN_ATTR_ENGINE_DEVICEPROP);
    engine_.finalize(("engine '" + engine + "'").c_str());
    config_.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine_);
    while (*end == ':' || *end == ',') {
      const auto type = static_cast<cudnnBackendKnobType_t>(std::strtoll(end + 1, &end, 10));
      if (*end != '=') throw EnvironmentError("cudnn: '" + engine + "' is no engine");
      const std::int64_t value = std::strtoll(end + 1, &end, 10);
      Descriptor& choice = choices_.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
      choice.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, type);
      choice.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, value);
      choice.finalize("a setting");
    }
    std::vector<cudnnBackendDescriptor_t> raw;
    for (const Descriptor& choice : choices_) raw.push_back(choice.get());
    if (!raw.empty()) config_.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, raw);
    config_.finalize(("engine '" + engine + "'").c_str());
    plan_.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config_);
    if (handle_) plan_.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, handle_);
    target.apply(plan_, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    plan_.finalize(("engine '" + engine + "'").c_str());
    const auto bytes = plan_.get<std::int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64);
    workspace_ = Bytes{bytes.empty() ? 0 : bytes[0]};
  }

  Bytes workspace() const override { return workspace_; }

  void run(const void* first, const void* second, void* result, void* workspace, void* stream) override {
    expect(api().set_stream(handle_, static_cast<cudaStream_t>(stream)), "the stream");
    // Of x, w, y, as the pass has them.
    std::array<void*, 3> addresses{};
    void* const a = const_cast<void*>(first);
    void* const b = const_cast<void*>(second);
    if (problem_.pass == CudnnPass::forward) addresses = {a, b, result};
    if (problem_.pass == CudnnPass::backward_data) addresses = {result, b, a};
    if (problem_.pass == CudnnPass::backward_weights) addresses = {b, result, a};
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    const std::vector<void*> pointers(addresses.begin(), addresses.end());
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, pointers);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, std::vector<std::int64_t>{kX, kW, kY});
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace);
    pack.finalize("addresses");
    expect(api().execute(handle_, plan_.get(), pack.get()), "a convolution");
  }

 private:
  CudnnProblem problem_;
  cudnnHandle_t handle_;
  OperationGraph graph_;
  Descriptor engine_, config_, plan_;
  std::vector<Descriptor> choices_;
  Bytes workspace_;
};

class LoadedCudnn final : public Cudnn {
 public:
  explicit LoadedCudnn(const std::string& device_properties) {
    if (device_properties.empty()) {
      expect(api().create(&target_.handle), "no handle");
      return;
    }
    target_.properties = std::make_unique<Descriptor>(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    const std::vector<char> text(device_properties.begin(), device_properties.end());
    target_.properties->set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, text);
    target_.properties->finalize("the description of a device");
  }
  ~LoadedCudnn() override {
    if (target_.handle) api().destroy(target_.handle);
  }

  std::vector<CudnnEngine> engines(const CudnnProblem& problem, std::size_t most) override {
    const OperationGraph graph(problem, target_.handle);
    std::vector<CudnnEngine> all;
    for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
      Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.graph);
      heuristic.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
      target_.apply(heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
      if (!heuristic.is_finalized()) continue;
      std::int64_t count = 0;
      expect(
          api().get(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
          "no engines");
      for (const Descriptor& config :
           heuristic.get(CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, count)) {
        if (all.size() >= most) break;
        add(problem, config, all);
      }
    }
    return all;
  }

  std::unique_ptr<CudnnConvolution> prepare(const CudnnProblem& problem, const std::string& engine) override {
    return std::make_unique<Convolution>(problem, engine, target_);
  }

  std::string version() const override {
    const std::size_t v = api().get_version();
    return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
  }

  std::string device_properties() override {
    Descriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    properties.set(CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, target_.handle);
    properties.finalize("the device's properties");
    const auto text = properties.get<char>(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR);
    return {text.begin(), std::find(text.begin(), text.end(), '\0')};
  }

 private:
  void add(const CudnnProblem& problem, const Descriptor& config, std::vector<CudnnEngine>& all) {
    const auto found = config.get(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
    if (found.empty() || !is_wanted(found[0], problem.tf32)) return;
    const auto index = found[0].get<std::int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64);
    if (index.empty()) return;
    std::string name = name_of(config, index[0]);
    for (const CudnnEngine& other : all)
      if (other.name == name) return;
    try {
      const Convolution made(problem, name, target_);
      all.push_back({std::move(name), made.workspace()});
    } catch (const EnvironmentError&) {  // proposed, but not for these shapes
    }
  }

  Target target_;
};

}  // namespace

std::unique_ptr<Cudnn> open_cudnn(const std::string& device_properties, std::string& reason) {
  api(&reason);
  if (!reason.empty()) return nullptr;
  try {
    return std::make_unique<LoadedCudnn>(device_properties);
  } catch (const EnvironmentError& error) {
    reason = error.what();
    return nullptr;
  }
}

}  // namespace thimble
