// Cropped, normalised pictures on CUDA: the CPU's bits. A thread has four values of one picture, or one of those that
// fill no vector. A shift beyond the padding cannot be reported from here; it makes the picture NaN.
#include "crop_pictures.h"

#include <cmath>
#include <cstdlib>

#include "cuda_ops.h"

namespace thimble {
namespace {

struct Pictures {
  int channels, height, width, padding;
  ChannelScales scales;

  __device__ int plane() const { return height * width; }
  __device__ int values() const { return channels * height * width; }
};

// One picture as its values are asked for, in the order of the output.
struct ShiftedPicture {
  const Pictures& all;
  const std::uint8_t* planes;
  PictureShift shift;
  bool is_there;

  __device__ ShiftedPicture(const Pictures& pictures, const std::uint8_t* bytes, const std::int32_t* shifts,
                            std::int64_t sample)
      : all(pictures), planes(bytes + sample * pictures.values()), shift(), is_there(true) {
    if (shifts == nullptr) return;
    const std::int32_t* s = shifts + 3 * sample;
    shift = {s[0], s[1], s[2] != 0};
    is_there = abs(shift.rows) <= all.padding && abs(shift.columns) <= all.padding;
  }
  __device__ float operator()(int value) const {
    if (!is_there) return NAN;
    const int pixel = value / all.channels, c = value - pixel * all.channels;
    const int y = pixel / all.width, x = pixel - y * all.width;
    const int from = shifted_row(shift, y, all.height) * all.width + shifted_column(shift, x, all.width);
    return normalized_pixel(planes[c * all.plane() + from], all.scales[static_cast<std::size_t>(c)]);
  }
};

// `per_picture` threads for each.
template <bool kAligned>
__global__ void crop_pictures_kernel(Pictures pictures, std::int64_t per_picture, std::int64_t all,
                                     const std::uint8_t* bytes, const std::int32_t* shifts, float* to) {
  const std::int64_t thread = global_thread();
  if (thread >= all) return;
  const std::int64_t sample = thread / per_picture;
  const auto item = static_cast<int>(thread - sample * per_picture);
  const ShiftedPicture picture(pictures, bytes, shifts, sample);
  to += sample * pictures.values();
  if constexpr (kAligned)
    simt::store4(to + 4 * item,
                 make_float4(picture(4 * item), picture(4 * item + 1), picture(4 * item + 2), picture(4 * item + 3)));
  else
    to[item] = picture(item);
}

void run(const OpShape& shape, const KernelArguments& a) {
  const std::vector<std::int64_t>& extents = shape.inputs[0].shape;
  const Pictures pictures{static_cast<int>(extents[1]), static_cast<int>(extents[2]), static_cast<int>(extents[3]),
                          static_cast<int>(int_attribute(shape.attributes, "padding")),
                          channel_scales(shape.attributes, extents[1])};
  const std::int64_t values = elements_per_sample(shape.outputs[0]);
  const bool is_whole = values % 4 == 0 && are_aligned({a.outputs[0]});
  const std::int64_t per_picture = is_whole ? values / 4 : values, all = per_picture * extents[0];
  simt::launch(is_whole ? crop_pictures_kernel<true> : crop_pictures_kernel<false>, blocks_for(all), kBlock, 0,
               stream_of(a), pictures, per_picture, all, reinterpret_cast<const std::uint8_t*>(a.inputs[0]),
               shape.inputs.size() == 2 ? ints(a.inputs[1]) : nullptr, floats(a.outputs[0]));
}

}  // namespace

void register_crop_pictures_cuda(OpRegistry& registry) {
  registry.add_kernels("crop_pictures", kCudaBackend,
                       {.workspace = {}, .make_kernel = [](const OpShape& s) { return function_kernel(s, run); }});
}

}  // namespace thimble
