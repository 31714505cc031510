// The benchmark's rows for `bench --compare`: each operation on the native backend and, if there is
// one, on cuDNN's, with the same operands and the same count of arithmetic and bytes.

#include <memory>
#include <string>
#include <utility>

#include "host/engine/backends/backends.h"
#include "host/engine/backends/op_case.h"
#include "host/engine/bench/tables.h"
#include "host/engine/device/stream.h"

namespace mnist::MNIST_TARGET {

namespace {

// A backend, and the operations that its rows run.
class BackendUnderTest {
 public:
  // keep: an operation is made once and serves all sets of buffers and all of its rows. What it
  // holds inside (filters laid out anew, workspaces) then stays in the cache.
  BackendUnderTest(std::string name, std::unique_ptr<Backend> backend, bool keep)
      : name(std::move(name)), backend_(std::move(backend)), keep_(keep) {}

  std::shared_ptr<CaseOnBackend> on_backend(const std::shared_ptr<const OpCase>& wanted) {
    if (kept_ != nullptr && kept_of_ == wanted) return kept_;
    kept_.reset();  // its memory may be needed
    auto made = std::make_shared<CaseOnBackend>(*backend_, *wanted);
    if (!keep_) return made;
    kept_of_ = wanted;
    return kept_ = std::move(made);
  }

  // Where the rows are prepared: always the same stream, since a library keeps state for each.
  const Stream& stream() const { return stream_; }

  const std::string name;

 private:
  const std::unique_ptr<Backend> backend_;
  const bool keep_;
  Stream stream_;
  std::shared_ptr<const OpCase> kept_of_;
  std::shared_ptr<CaseOnBackend> kept_;
};

using Sides = std::vector<std::shared_ptr<BackendUnderTest>>;

Sides make_sides(bool with_cudnn) {
  Sides sides{
      std::make_shared<BackendUnderTest>("native", make_backend(BackendKind::kNative), false)};
  // Kept, since cuDNN's timing search takes long and its workspaces are large.
  if (with_cudnn)
    sides.push_back(std::make_shared<BackendUnderTest>(
        "cudnn", make_backend(BackendKind::kCudnn, {.timed_search = true}), true));
  return sides;
}

enum class Direction { kForward, kBackwardFilter, kBackwardData, kBackward };

const char* suffix(Direction direction) {
  switch (direction) {
    case Direction::kForward:
      return "_forward";
    case Direction::kBackwardFilter:
      return "_backward_filter";
    case Direction::kBackwardData:
      return "_backward_data";
    default:
      return "_backward";
  }
}

struct Sizes {
  explicit Sizes(const OpCase& op_case)
      : x(size_t(op_case.batch) * size_t(op_case.model.input.size())),
        y(size_t(op_case.batch) * size_t(op_case.output().size())),
        weights(op_case.model.arena_size) {}
  size_t x, y, weights;
};

// Half of a gradient is zero where a ReLU follows; after a pooling a quarter is left.
double density(const OpCase& op_case) {
  return op_case.name == "conv2d" ? 0.25 : 0.5;
}

Launch prepare(Operands& o, const std::shared_ptr<BackendUnderTest>& side,
               const std::shared_ptr<const OpCase>& op_case, Direction direction) {
  const std::shared_ptr<CaseOnBackend> op = side->on_backend(op_case);
  const Sizes size(*op_case);
  const int n = op_case->batch;
  const float* x = op_case->is_softmax() ? o.normal(size.x) : o.relu(size.x);
  // Operands that a pass needs only to restore the forward pass's state do not count.
  const float* weights =
      direction == Direction::kBackwardFilter ? o.scratch(size.weights) : o.normal(size.weights);
  float* y = direction == Direction::kForward ? o.output(size.y) : o.scratch(size.y);
  const cudaStream_t stream = side->stream();
  CUDA_CHECK(cudaDeviceSynchronize());  // the operands are there
  const Pass pass{weights, nullptr, n, stream};
  op->load_weights(pass);
  op->forward(y, x, pass);
  side->stream().synchronize();
  if (direction == Direction::kForward)
    return [=](cudaStream_t s) { op->forward(y, x, {weights, nullptr, n, s}); };

  const float* dy = o.gradient(size.y, density(*op_case));
  const bool image = op_case->model.input.c == 1;
  const bool by_filter = direction != Direction::kBackwardData && op_case->has_parameters();
  float* gradients = by_filter ? o.output(size.weights) : nullptr;
  const bool by_data =
      direction == Direction::kBackwardData || (direction == Direction::kBackward && !image);
  float* dx = by_data ? o.output(size.x) : nullptr;
  return [=](cudaStream_t s) {
    const Pass pass{weights, nullptr, n, s};
    const float* first_dy = op->back_to_first(dy, y, pass);
    if (gradients != nullptr) op->backward_filter(gradients, first_dy, x, pass);
    if (dx != nullptr) op->backward_data(dx, first_dy, x, y, true, pass);
  };
}

// A backward pass through a pooling counts only each window's maximum.
double flops(const OpCase& op_case, Direction direction) {
  double forward = 0;
  for (const Layer& layer : op_case.model.layers) forward += op_case.batch * forward_flops(layer);
  if (direction != Direction::kBackward) return forward;
  return forward / 4 * (op_case.model.input.c == 1 ? 1 : 2);
}

class RowBuilder {
 public:
  explicit RowBuilder(Sides sides) : sides_(std::move(sides)) {}

  void add(int batch, const Extent& input, const std::string& layers, bool backward = true) {
    const auto op_case = std::make_shared<const OpCase>(make_op_case(batch, input, layers));
    add(op_case, Direction::kForward);
    if (!backward || op_case->is_softmax()) return;
    if (op_case->is_pair() || !op_case->has_parameters()) {
      add(op_case, Direction::kBackward);
      return;
    }
    add(op_case, Direction::kBackwardFilter);
    if (op_case->name == "dense" || input.c > 1) add(op_case, Direction::kBackwardData);
  }

  std::vector<TableRow> take() { return std::move(rows_); }

 private:
  void add(const std::shared_ptr<const OpCase>& op_case, Direction direction) {
    const std::string name = op_case->name + (op_case->is_softmax() ? "" : suffix(direction));
    for (const std::shared_ptr<BackendUnderTest>& side : sides_)
      rows_.push_back({{name, op_case->shape, side->name, flops(*op_case, direction)},
                       [=](Operands& o) { return prepare(o, side, op_case, direction); }});
  }

  const Sides sides_;
  std::vector<TableRow> rows_;
};

}  // namespace

std::vector<TableRow> comparison_table(bool with_cudnn) {
  RowBuilder rows(make_sides(with_cudnn));
  // The default model's first, then wider layers. A pair is a convolution and the pooling after
  // it: the native backend has one operation for both, and drops the rows and columns that the
  // pooling does not read. Its backward pass is one row, since the gradients share the pooling's.
  const Extent image{28, 28, 1}, second{13, 13, 32}, wide{14, 14, 64};
  rows.add(128, image, "conv:32x3,pool:2");
  rows.add(128, second, "conv:64x3,pool:2");
  rows.add(1024, second, "conv:64x3,pool:2", false);
  rows.add(64, wide, "conv:64x3:same,pool:2");
  rows.add(128, image, "conv:32x3");
  rows.add(128, second, "conv:64x3");
  rows.add(1024, second, "conv:64x3", false);
  rows.add(256, image, "conv:32x5");
  rows.add(64, wide, "conv:64x3:same");
  rows.add(128, {26, 26, 32}, "pool:2");
  rows.add(128, {11, 11, 64}, "pool:2");
  rows.add(64, {27, 27, 64}, "pool:3:stride2");
  rows.add(128, {1, 1, 1600}, "dense:128");
  rows.add(128, {1, 1, 128}, "dense:10:linear");
  rows.add(1024, {1, 1, 1600}, "dense:128", false);
  rows.add(256, {1, 1, 1024}, "dense:1024");
  rows.add(128, {1, 1, 10}, "softmax");
  rows.add(1024, {1, 1, 10}, "softmax");
  rows.add(1024, {1, 1, 100}, "softmax");
  return rows.take();
}

}  // namespace mnist::MNIST_TARGET
