// The tests' own tools: published vectors and results worked out by hand.
#include "kernels/philox.h"
#include "tests/support/cases.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/reference.h"

namespace mnist {
namespace {

using reference::Tensor;

// Known answers published with the Random123 library of Philox' authors.
TEST_CASE("Philox4x32-10 gives the published words", "[reference]") {
  struct Known {
    std::array<uint32_t, 4> counter;
    std::array<uint32_t, 2> key;
    std::array<uint32_t, 4> words;
  };
  const Known known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}};
  for (const Known& k : known) {
    REQUIRE(reference::philox4x32_10(k.counter, k.key) == k.words);
    const PhiloxWords words =
        philox(k.key[0] | uint64_t(k.key[1]) << 32, 0, k.counter[0] | uint64_t(k.counter[1]) << 32,
               k.counter[2] | uint64_t(k.counter[3]) << 32);
    REQUIRE(std::array<uint32_t, 4>{words.x, words.y, words.z, words.w} == k.words);
  }
  Random random;
  for (int i = 0; i < 100; ++i) {
    const uint64_t seed = random.next(), low = random.next(), high = random.next();
    const uint32_t stream = uint32_t(random.next());
    const PhiloxWords words = philox(seed, stream, low, high);
    REQUIRE(std::array<uint32_t, 4>{words.x, words.y, words.z, words.w} ==
            reference::philox4x32_10(
                {uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)},
                {uint32_t(seed), uint32_t(seed >> 32) ^ stream}));
  }
}

TEST_CASE("a comparison fails on what is wrong", "[reference]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const reference::Sums sums{{1, 2, 3, 4}, {1, 2, 3, 4}, 1};
  REQUIRE(difference<float>({1, 2, 3, 4}, sums, {2, 2}) == "");
  REQUIRE(difference<float>({1, 2, 3, 4.000001f}, sums, {2, 2}) == "");
  REQUIRE(difference<float>({1, 2, 3, 4.0001f}, sums, {2, 2}) != "");
  REQUIRE(difference<float>({1, 2, nan, 4}, sums, {2, 2}) != "");
  REQUIRE(difference<float>({1, 2, infinity, 4}, sums, {2, 2}) != "");
  REQUIRE(difference<float>({1, 2, 3}, sums, {2, 2}) != "");
  REQUIRE(difference<float>({1, 2, 3, 4}, {{1, 2, nan, 4}, {1, 2, 3, 4}, 1}, {2, 2}) != "");
  REQUIRE(difference<float>({1, 2, 3, 4}, {{1, 2, 3, 4}, {1, 2, nan, 4}, 1}, {2, 2}) == "");
  REQUIRE(difference<float>({1, 2, 3.0001f, 4}, {{1, 2, 3, 4}, {1, 2, nan, 4}, 1}, {2, 2}) != "");
  REQUIRE(inequality<float>({0.f, nan}, Tensor{-0.0, nan}, {2}) == "");
  REQUIRE(inequality<float>({0.f, 1}, Tensor{0.0, nan}, {2}) != "");
  REQUIRE(inequality<float>({1e-30f, nan}, Tensor{0.0, nan}, {2}) != "");
  REQUIRE(coordinates(23, {2, 3, 4}) == "(1,2,3)");
  REQUIRE(inequality<float>({0, 1, 2, 4, 9, 5}, Tensor{0, 1, 2, 3, 4, 5}, {2, 3}) ==
          "2 of 6 wrong; first (1,0) is 4, not 3 +- 0; worst (1,0) is 4, not 3 +- 0");
}

// A worked example: cross-correlation (no flip), 'same' padding with one column on the right only.
TEST_CASE("the reference convolution is Keras'", "[reference]") {
  const ConvShape shape = conv_same(1, 2, 2, 1, 1, {1, 2});
  REQUIRE(shape.pad_w == 0);
  REQUIRE(shape.q == 2);
  const Tensor x = {1, 2, 3, 4}, w = {10, 1}, dy = {1, 2, 3, 4};
  REQUIRE(reference::conv2d_forward(x, w, {0.5}, shape).value == Tensor{12.5, 20.5, 34.5, 40.5});
  REQUIRE(reference::conv2d_backward_data(dy, w, shape).value == Tensor{10, 21, 30, 43});
  REQUIRE(reference::conv2d_backward_filter(x, dy, shape).value == Tensor{30, 14});
  REQUIRE(reference::conv2d_forward({-1, 2, 3, -4}, w, {0.5}, shape).magnitude ==
          Tensor{12.5, 20.5, 34.5, 40.5});

  // Two channels in, two out: w[c][k], bias by k.
  const ConvShape pixel = conv_valid(1, 1, 1, 2, 2, {1, 1});
  REQUIRE(reference::conv2d_forward({1, 10}, {1, 2, 3, 4}, {100, 200}, pixel).value ==
          Tensor{131, 242});
  REQUIRE(reference::dense_forward({1, 10}, {1, 2, 3, 4}, {100, 200}, {1, 2, 2}).value ==
          Tensor{131, 242});
  REQUIRE(reference::dense_backward_data({1, 10}, {1, 2, 3, 4}, {1, 2, 2}).value == Tensor{21, 43});
  REQUIRE(reference::dense_backward_filter({1, 10}, {1, 2}, {1, 2, 2}).value ==
          Tensor{1, 2, 10, 20});
}

TEST_CASE("the reference loss and optimizer give known values", "[reference]") {
  // Three equal logits: the loss is log 3, the gradient 1/3 - onehot, divided by two rows.
  const reference::CrossEntropy loss =
      reference::softmax_xent({5, 5, 5, 0, 1000, 0, 7, 7, 7}, {2, 1, 0}, 2, 3, 3);
  REQUIRE(near(loss.loss.value[0], std::log(3.0), 1e-14));
  REQUIRE(loss.correct == 1);
  REQUIRE(near(loss.dlogits.value[0], 1.0 / 6, 1e-14));
  REQUIRE(near(loss.dlogits.value[2], -1.0 / 3, 1e-14));
  REQUIRE(loss.dlogits.value[4] == 0);
  REQUIRE(loss.dlogits.value[6] == 0);

  // The first step of Adam moves each weight by almost exactly the learning rate against the sign.
  reference::Adam adam = reference::make_adam({1, 1}, {0, 0}, {0, 0});
  adam.update({3, -0.25}, 0.001, 1, AdamParams{});
  REQUIRE(near(adam.w.value[0], 0.999, 1e-6));
  REQUIRE(near(adam.w.value[1], 1.001, 1e-6));
}

}  // namespace
}  // namespace mnist
