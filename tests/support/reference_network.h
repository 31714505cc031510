// A whole model in double precision, forward and backward, out of the operations of
// tests/support/reference.h. Beside every value it carries how far a float32 network may be from
// it, so that a comparison needs no tolerance chosen by hand.
//
// The bound grows with each rounding (compare.h: rounding_error()) and passes through a layer as
// the values do. At a kink -- a ReLU or a pooling whose decision lies within the bound -- the
// float32 network may go either way: the gradient there is uncertain by as much as it passes on.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "host/model/model.h"
#include "tests/support/compare.h"
#include "tests/support/reference.h"

namespace mnist::reference {

struct Bounded {
  Tensor value;
  Tensor error;  // >= 0, as long as `value`
};

// Exact values.
Bounded exact(const std::vector<float>& values);

// As those of compare.h; what is expected is finite.
inline std::string difference(const std::vector<float>& actual, const Bounded& expected,
                              const Extents& extents) {
  for (double value : expected.value)
    if (!std::isfinite(value)) return "the reference is not finite";
  return detail::report(actual, expected.value, extents, [&](size_t i) {
    return expected.error[i] + double(std::numeric_limits<float>::min());
  });
}

// What dropout draws its masks from.
struct DropoutState {
  uint64_t seed;
  int64_t iteration;
};

class Network {
 public:
  // `weights` in arena layout. The model outlives the network.
  Network(const Model& model, const std::vector<float>& weights);

  // Logits [n,classes] of input [n,h,w,c]. Without `dropout`, as at inference.
  const Bounded& forward(Bounded input, int n, const std::optional<DropoutState>& dropout);

  // Gradients in arena layout, zero in the gaps; after forward(). dlogits [n,classes].
  Bounded backward(Bounded dlogits);

 private:
  Bounded forward(const Layer& layer, int index, const Bounded& x);
  Bounded backward(const Layer& layer, int index, const Bounded& x, const Bounded& dy);
  Tensor parameter(int layer, const char* name) const;
  std::vector<float> mask(const Layer& layer, int index) const;

  const Model& model_;
  const Tensor weights_;
  int n_ = 0;
  std::optional<DropoutState> dropout_;
  std::vector<Bounded> x_;                    // the input of each layer, and the logits
  std::vector<std::vector<bool>> undecided_;  // of each layer's ReLU; empty: none
  Bounded gradients_;
};

// Cross-entropy of logits [n,classes], of whose rows the first `rows` count.
struct BoundedLoss {
  Bounded dlogits;  // of the mean; rows that do not count are zero
  double sum, error;
  int64_t correct_least, correct_most;
};
BoundedLoss softmax_xent(const Bounded& logits, const std::vector<uint8_t>& labels, int rows, int n,
                         int classes);

// [n,classes]
Bounded softmax(const Bounded& logits, int n, int classes);

}  // namespace mnist::reference
