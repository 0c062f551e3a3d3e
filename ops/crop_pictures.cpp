// Pictures as they lie in files, {B, C, H, W} bytes, become normalised floats {B, H, W, C}: (value - mean) / deviation
// with the attributes mean_0, deviation_0, mean_1, ... of the channels. With a second input {B, 3} (rows, columns,
// mirrored) each is a window of its size, shifted inside of the picture with `padding` reflected pixels on each side.
#include "crop_pictures.h"

#include "thimble/parallel.h"

namespace thimble {
namespace {

constexpr const char* kKind = "crop_pictures";
constexpr std::int64_t kByteValues = 256;

PictureShift checked_shift(const std::int32_t* shifts, std::int64_t sample, int padding) {
  const std::int32_t* s = shifts + 3 * sample;
  for (int i : {0, 1})
    if (s[i] < -padding || s[i] > padding)
      throw InvalidArgument(std::string(kKind) + ": a shift by " + std::to_string(s[i]) + "; the padding is " +
                            std::to_string(padding));
  return {s[0], s[1], s[2] != 0};
}

// What each byte becomes, in each channel.
void fill_table(const ChannelScales& scales, std::int64_t channels, float* table) {
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t v = 0; v < kByteValues; ++v)
      table[c * kByteValues + v] = normalized_pixel(static_cast<std::uint8_t>(v), scales[static_cast<std::size_t>(c)]);
}

void run(const OpShape& shape, const KernelArguments& a) {
  const std::vector<std::int64_t>& extents = shape.inputs[0].shape;
  const std::int64_t channels = extents[1], plane = extents[2] * extents[3];
  const auto height = static_cast<int>(extents[2]), width = static_cast<int>(extents[3]);
  const auto padding = static_cast<int>(int_attribute(shape.attributes, "padding"));
  const bool shifts = shape.inputs.size() == 2;
  float* table = floats(a.workspace);
  fill_table(channel_scales(shape.attributes, channels), channels, table);
  parallel_chunks(shape.device.threads, extents[0], [&](std::int64_t n) {
    const PictureShift shift =
        shifts ? checked_shift(reinterpret_cast<const std::int32_t*>(a.inputs[1]), n, padding) : PictureShift{};
    const auto* picture = reinterpret_cast<const std::uint8_t*>(a.inputs[0]) + n * channels * plane;
    float* to = floats(a.outputs[0]) + n * channels * plane;
    for (int y = 0; y < height; ++y) {
      const std::uint8_t* row = picture + shifted_row(shift, y, height) * width;
      for (int x = 0; x < width; ++x) {
        const std::uint8_t* pixel = row + shifted_column(shift, x, width);
        for (std::int64_t c = 0; c < channels; ++c) *to++ = table[c * kByteValues + pixel[c * plane]];
      }
    }
  });
}

std::vector<OutputSpec> infer(const std::vector<TensorType>& in, const Attributes& attributes) {
  if (in.size() != 1) expect_inputs(kKind, in, 2);
  const TensorType& pictures = in[0];
  if (pictures.dtype != DType::u8 || pictures.shape.size() != 4 || !pictures.batched)
    throw InvalidArgument(std::string(kKind) + ": its input is no batch of planes of bytes");
  const std::int64_t samples = pictures.shape[0], channels = pictures.shape[1];
  if (channels > kMostPictureChannels)
    throw InvalidArgument(std::string(kKind) + ": " + std::to_string(channels) + " channels; at most " +
                          std::to_string(kMostPictureChannels));
  channel_scales(attributes, channels);
  if (in.size() == 2) expect_same(kKind, in[1], {DType::i32, {samples, 3}, true});
  const std::int64_t padding = int_attribute(attributes, "padding");
  if (padding < 0 || padding >= std::min(pictures.shape[2], pictures.shape[3]))
    throw InvalidArgument(std::string(kKind) + ": a padding of " + std::to_string(padding) +
                          "; what it reflects is as wide, without the border itself");
  return outputs_like({DType::f32, {samples, pictures.shape[2], pictures.shape[3], channels}, true});
}

Bytes workspace(const OpShape& shape) {
  return Bytes{shape.inputs[0].shape[1] * kByteValues * static_cast<std::int64_t>(sizeof(float))};
}

}  // namespace

void register_crop_pictures(OpRegistry& registry) {
  OpDefinition crop;
  crop.kind = kKind;
  crop.infer = infer;
  crop.workspace = workspace;
  crop.make_kernel = [](const OpShape& s) { return function_kernel(s, run); };
  registry.add(crop);
}

}  // namespace thimble
