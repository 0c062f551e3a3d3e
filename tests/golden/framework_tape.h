// What the tape of a framework keeps of a forward graph between forward and backward pass, by the rules of autograd
// with ReLUs in place. Counted from the graph alone: no lifetimes, no schedule, no plan, and none of our gradient
// rules.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "thimble/error.h"
#include "thimble/graph.h"
#include "thimble/wide_resnet.h"

namespace thimble {

struct Saved {
  std::string name, kept_as, ops;  // as what it is kept, by which ops
  std::int64_t per_image = 0;      // elements
};

struct Tape {
  std::vector<Saved> maps;     // what reference/remat.md section 5.1 counts
  std::int64_t per_image = 0;  // elements of all of them
  Bytes maps_bytes;
  Bytes weights;        // once; with gradients and momentum three times
  Bytes normalisation;  // not in the reference's count: each batch norm's mean and inverse deviation
  Bytes loss;           // nor these: log-probabilities, 64-bit labels, the sum of the labels' weights
  Bytes last_map;       // what the backward pass first makes two of: the gradients of the last ReLU's output and input
  Bytes counted() const { return maps_bytes + 3 * weights; }
};

class TapeCounter {
 public:
  explicit TapeCounter(const Graph& forward) : forward_(forward) {}

  Tape count() {
    for (const Op& op : forward_.ops) record(op);
    tape_.maps_bytes = Bytes{tape_.per_image * forward_.batch * 4};
    tape_.weights = Bytes{parameter_count(forward_) * 4};
    return std::move(tape_);
  }

 private:
  void record(const Op& op) {
    const TensorType& in = forward_.tensors[op.inputs.at(0)].type;
    if (op.kind == "conv2d" || op.kind == "linear") {
      keep(op.inputs[0], "input of " + op.kind, op);  // and its weight, which is there anyway
    } else if (op.kind == "batch_norm") {
      keep(op.inputs[0], "input of batch_norm", op);
      tape_.normalisation += Bytes{2 * 4 * in.shape.back()};
      if (int_attribute(op.attributes, "relu") != 0)
        keep(op.outputs[0], "output of relu", op);  // in one op with us only
    } else if (op.kind == "relu") {
      in_place_of_[op.outputs[0]] = op.inputs[0];
      keep(op.outputs[0], "output of relu", op);
    } else if (op.kind == "global_average_pool") {
      keep(op.inputs[0], "input of global_average_pool", op);
      tape_.last_map = bytes_of(in);
    } else if (op.kind == "softmax_cross_entropy") {
      tape_.loss = Bytes{element_count(in) * 4 + forward_.batch * 8 + 4};
    } else if (op.kind != "add" && op.kind != "running_statistics") {  // a sum's gradients need neither term
      throw InvalidArgument("tape: nobody said what autograd keeps of '" + op.kind + "'");
    }
  }

  // Bytes are counted once, however many ops keep them and whatever they are called since.
  void keep(TensorId tensor, const std::string& as, const Op& op) {
    const auto place = in_place_of_.find(tensor);
    const TensorId bytes = place == in_place_of_.end() ? tensor : place->second;
    const auto [found, added] = kept_.emplace(bytes, tape_.maps.size());
    if (added) {
      tape_.maps.push_back(
          {forward_.tensors[tensor].name, as, op.name, elements_per_sample(forward_.tensors[tensor].type)});
      tape_.per_image += tape_.maps.back().per_image;
      return;
    }
    Saved& saved = tape_.maps[found->second];
    if (saved.kept_as.find(as) == std::string::npos) saved.kept_as += ", " + as;
    saved.ops += ", " + op.name;
  }

  const Graph& forward_;
  std::map<TensorId, TensorId> in_place_of_;
  std::map<TensorId, std::size_t> kept_;
  Tape tape_;
};

}  // namespace thimble
