// What one element becomes: functions of values alone, constexpr, so that loops of the CPU and kernels of CUDA call the
// same ones and give the same bits.
#pragma once

#include <cstdint>

#include "registration.h"
#include "thimble/philox.h"

namespace thimble {

struct Copy {
  constexpr float operator()(float x) const { return x; }
};
struct Sum {
  constexpr float operator()(float a, float b) const { return a + b; }
};

struct Rectify {
  constexpr float operator()(float x) const { return x < 0 ? 0.0f : x; }  // a NaN stays one
};
/// What a ReLU's gradient lets through, by its output.
struct KeepPositive {
  constexpr float operator()(float gradient, float y) const { return y > 0 ? gradient : 0.0f; }
};

/// Dropout: what is kept grows so that the mean stays.
struct KeepSome {
  float rate, scale;

  explicit constexpr KeepSome(float drop_rate) : rate(drop_rate), scale(1.0f / (1.0f - drop_rate)) {}
  constexpr float operator()(float x, std::uint32_t random) const {
    const float kept = scale * x;
    return uniform_from(random) > rate ? kept : 0.0f;
  }
};

/// SGD with momentum, as torch.optim.SGD with dampening 0.
struct SgdRates {
  float momentum, weight_decay;
  bool nesterov;

  static SgdRates of(const Attributes& attributes) {
    return {static_cast<float>(real_attribute(attributes, "momentum")),
            static_cast<float>(real_attribute(attributes, "weight_decay")), flag(attributes, "nesterov")};
  }
  constexpr float decayed(float gradient, float weight) const { return gradient + weight_decay * weight; }
  constexpr float velocity(float before, float decayed) const { return momentum * before + decayed; }
  constexpr float way(float decayed, float velocity) const {
    return nesterov ? decayed + momentum * velocity : velocity;
  }
};
/// Momentum before the first microbatch's gradient is added to it.
struct DecayVelocity {
  SgdRates rates;
  constexpr float operator()(float velocity, float weight) const {
    return rates.momentum * velocity + rates.weight_decay * weight;
  }
};
/// ... and with it.
struct AddToVelocity {
  SgdRates rates;
  constexpr float operator()(float gradient, float velocity, float weight) const {
    return rates.velocity(velocity, rates.decayed(gradient, weight));
  }
};
constexpr float moved(float weight, float learning_rate, float way) { return weight - learning_rate * way; }

/// Adam with decoupled weight decay, in one step.
struct AdamRates {
  float beta1, beta2, epsilon, step_size, decay;  // decay: of the weight in this step

  constexpr float first(float before, float gradient) const { return beta1 * before + (1 - beta1) * gradient; }
  constexpr float second(float before, float gradient) const {
    return beta2 * before + (1 - beta2) * gradient * gradient;
  }
  constexpr float weight(float before, float first, float root_of_second) const {
    return before - decay * before - step_size * (first / (root_of_second + epsilon));
  }
};

}  // namespace thimble
