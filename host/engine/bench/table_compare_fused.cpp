// The rows of `bench --compare --math fp16`: each fused kernel of a training step and, if there is
// cuDNN, the operations that it replaces, in FP16 too.

#include <iterator>
#include <memory>

#include "host/engine/backends/backends.h"
#include "host/engine/bench/library_step.h"
#include "host/engine/bench/tables.h"

namespace mnist::MNIST_TARGET {

namespace {

using Part = void (LibraryStep::*)(cudaStream_t);

// Those of fused_step_table(), in its order.
constexpr Part kParts[] = {&LibraryStep::conv_forward, &LibraryStep::dense_forward,
                           &LibraryStep::head, &LibraryStep::conv_backward,
                           &LibraryStep::update_filters};

// Made when the first row is timed, and kept: cuDNN's timing search takes long.
class Libraries {
 public:
  LibraryStep& step() {
    if (!step_) {
      step_ = std::make_unique<LibraryStep>(*backend_, kStepBatch);
      for (const Part part : kParts) (step_.get()->*part)(stream_);  // whose results the next needs
      stream_.synchronize();
    }
    return *step_;
  }

 private:
  const std::unique_ptr<Backend> backend_ =
      make_backend(BackendKind::kCudnn, {.timed_search = true, .fp16 = true});
  Stream stream_;
  std::unique_ptr<LibraryStep> step_;
};

}  // namespace

std::vector<TableRow> fused_comparison_table(bool with_cudnn) {
  std::vector<TableRow> fused = fused_step_table();
  if (!with_cudnn) return fused;
  const auto libraries = std::make_shared<Libraries>();
  std::vector<TableRow> rows;
  for (size_t i = 0; i < std::size(kParts); ++i) {
    BenchRow row = fused[i].row;
    row.backend = "cudnn";
    rows.push_back(std::move(fused[i]));
    rows.push_back({row, [=](Operands&) -> Launch {
                      LibraryStep& step = libraries->step();
                      return [=, &step](cudaStream_t stream) { (step.*kParts[i])(stream); };
                    }});
  }
  return rows;
}

}  // namespace mnist::MNIST_TARGET
