// The benchmark's rows for `bench --compare`: each operation on the native backend and, if there is
// one, on its rival, with the same operands and the same count of arithmetic and bytes.

#include <memory>
#include <string>
#include <utility>

#include "host/engine/backends/op_case.h"
#include "host/engine/bench/operands.h"
#include "host/engine/device/stream.h"
#include "host/error.h"

#ifdef MNIST_HAVE_CUDNN
#include "host/engine/backends/cudnn/backend.h"
#endif

namespace mnist::MNIST_TARGET {

namespace {

// A backend, and the operations that its rows run.
class Side {
 public:
  // keep: an operation is made once and serves all sets of buffers and all of its rows. What it
  // holds inside (filters laid out anew, workspaces) then stays in the cache.
  Side(std::string name, std::unique_ptr<Backend> backend, bool keep)
      : name(std::move(name)), backend_(std::move(backend)), keep_(keep) {}

  std::shared_ptr<BackendOperation> operation(const std::shared_ptr<const Operation>& wanted) {
    if (kept_ != nullptr && kept_of_ == wanted) return kept_;
    kept_.reset();  // its memory may be needed
    auto made = std::make_shared<BackendOperation>(*backend_, *wanted);
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
  std::shared_ptr<const Operation> kept_of_;
  std::shared_ptr<BackendOperation> kept_;
};

using Sides = std::vector<std::shared_ptr<Side>>;

Sides make_sides(bool with_cudnn) {
  Sides sides{std::make_shared<Side>("native", make_native_backend(), false)};
  if (!with_cudnn) return sides;
#ifdef MNIST_HAVE_CUDNN
  // Kept, since cuDNN's timing search takes long and its workspaces are large.
  sides.push_back(
      std::make_shared<Side>("cudnn", make_cudnn_backend({.timed_search = true}), true));
  return sides;
#else
  throw Error(ExitCode::kInternal, "there is no cudnn backend to compare with");
#endif
}

enum class Pass { kForward, kBackwardFilter, kBackwardData, kBackward };

const char* suffix(Pass pass) {
  switch (pass) {
    case Pass::kForward:
      return "_forward";
    case Pass::kBackwardFilter:
      return "_backward_filter";
    case Pass::kBackwardData:
      return "_backward_data";
    default:
      return "_backward";
  }
}

struct Sizes {
  explicit Sizes(const Operation& operation)
      : x(size_t(operation.batch) * size_t(operation.model.input.size())),
        y(size_t(operation.batch) * size_t(operation.output().size())),
        weights(operation.model.arena_size) {}
  size_t x, y, weights;
};

// Half of a gradient is zero where a ReLU lies behind; behind a pooling a quarter is left.
double density(const Operation& operation) {
  return operation.name == "conv2d" ? 0.25 : 0.5;
}

Launch prepare(Operands& o, const std::shared_ptr<Side>& side,
               const std::shared_ptr<const Operation>& operation, Pass pass) {
  const std::shared_ptr<BackendOperation> op = side->operation(operation);
  const Sizes size(*operation);
  const int n = operation->batch;
  const float* x = operation->is_softmax() ? o.normal(size.x) : o.relu(size.x);
  // What a pass needs only because backends remember the forward pass, does not count.
  const float* weights =
      pass == Pass::kBackwardFilter ? o.scratch(size.weights) : o.normal(size.weights);
  float* y = pass == Pass::kForward ? o.output(size.y) : o.scratch(size.y);
  const cudaStream_t stream = side->stream();
  CUDA_CHECK(cudaDeviceSynchronize());  // the operands are there
  op->load_weights(weights, stream);
  op->forward(y, x, weights, n, stream);
  side->stream().synchronize();
  if (pass == Pass::kForward) return [=](cudaStream_t s) { op->forward(y, x, weights, n, s); };

  const float* dy = o.gradient(size.y, density(*operation));
  const bool image = operation->model.input.c == 1;
  const bool by_filter = pass != Pass::kBackwardData && operation->has_parameters();
  float* gradients = by_filter ? o.output(size.weights) : nullptr;
  const bool by_data = pass == Pass::kBackwardData || (pass == Pass::kBackward && !image);
  float* dx = by_data ? o.output(size.x) : nullptr;
  return [=](cudaStream_t s) {
    const float* first_dy = op->back_to_first(dy, y, weights, n, s);
    if (gradients != nullptr) op->backward_filter(gradients, first_dy, x, n, s);
    if (dx != nullptr) op->backward_data(dx, first_dy, x, y, weights, true, n, s);
  };
}

// Of the winners of a pooling alone, on the way back.
double flops(const Operation& operation, Pass pass) {
  double forward = 0;
  for (const Layer& layer : operation.model.layers)
    forward += operation.batch * forward_flops(layer);
  if (pass != Pass::kBackward) return forward;
  return forward / 4 * (operation.model.input.c == 1 ? 1 : 2);
}

class Rows {
 public:
  explicit Rows(Sides sides) : sides_(std::move(sides)) {}

  void add(int batch, const Extent& input, const std::string& layers, bool backward = true) {
    const auto operation = std::make_shared<const Operation>(make_operation(batch, input, layers));
    add(operation, Pass::kForward);
    if (!backward || operation->is_softmax()) return;
    if (operation->is_pair() || !operation->has_parameters()) {
      add(operation, Pass::kBackward);
      return;
    }
    add(operation, Pass::kBackwardFilter);
    if (operation->name == "dense" || input.c > 1) add(operation, Pass::kBackwardData);
  }

  std::vector<TableRow> take() { return std::move(rows_); }

 private:
  void add(const std::shared_ptr<const Operation>& operation, Pass pass) {
    const std::string name = operation->name + (operation->is_softmax() ? "" : suffix(pass));
    for (const std::shared_ptr<Side>& side : sides_)
      rows_.push_back({{name, operation->shape, side->name, flops(*operation, pass)},
                       [=](Operands& o) { return prepare(o, side, operation, pass); }});
  }

  const Sides sides_;
  std::vector<TableRow> rows_;
};

}  // namespace

std::vector<TableRow> comparison_table(bool with_cudnn) {
  Rows rows(make_sides(with_cudnn));
  // The default model's first, then wider layers. A pair is a convolution and the pooling behind
  // it: the native backend has one operation for both, and drops the rows and columns that the
  // pooling does not read. Its way back is one row, since the gradients share the pooling's.
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
