// Calls every library of an installed Thimble: plans a small network, runs one step of it, replays the plan; plans the
// same for a GPU; scores a translation, and asks SentencePiece, which thimble::models hides.
#include <cmath>
#include <cstdio>
#include <string>

#include "thimble/bleu.h"
#include "thimble/cuda.h"
#include "thimble/error.h"
#include "thimble/memory.h"
#include "thimble/ops.h"
#include "thimble/plan.h"
#include "thimble/replay.h"
#include "thimble/runtime.h"
#include "thimble/sentence_pieces.h"
#include "thimble/training_plan.h"

bool has_text_libraries() {
  const std::string text[] = {"four words at least"};
  if (std::abs(thimble::bleu(text, text).score - 100) > 1e-9) return false;
  try {
    thimble::SentencePieces("no model", "consumer");
  } catch (const thimble::BadInput&) {
    return true;
  }
  return false;
}

int main() {
  using namespace thimble;
  if (!has_text_libraries()) return 1;
  OpRegistry registry;
  register_ops(registry);
  TrainingChoices choices;
  choices.model = parse_wide_resnet("wrn-10-1");
  choices.batch = 2;
  const Plan plan = make_plan(request_training(choices, registry), registry);
  HostMemory memory;
  Runtime runtime(plan, registry, memory);
  const auto nothing = [](ProgramView&) {};
  runtime.run(kTrainProgram, {.seed = 1, .step = 0, .learning_rate = 0.1f}, nothing, nothing);
  const Bytes planned = plan.program(kTrainProgram).planned;
  if (runtime.last_high_water() != planned || !replay(plan, registry).problems.empty()) return 1;

  // For a GPU that is not there, by kernels for it that are.
  emulated_cuda(cuda_description("h200"))->register_kernels(registry);
  choices.device = cuda_description("h200");
  const Plan for_gpu = make_plan(request_training(choices, registry), registry);
  if (!replay(for_gpu, registry).problems.empty() || (find_cuda().backend == nullptr && find_cuda().reason.empty()))
    return 1;
  std::printf("planned and used %s\n", to_string(planned).c_str());
  return 0;
}
