#include "host/engine/training_state.h"

#include "host/engine/metric_sums.h"
#include "host/error.h"
#include "kernels/kernels.h"
#include "kernels/philox.h"

namespace mnist::MNIST_TARGET {

namespace {

void clear(const DeviceBuffer<float>& arena, cudaStream_t stream) {
  CUDA_CHECK(cudaMemsetAsync(arena.data(), 0, arena.bytes(), stream));
}

}  // namespace

TrainingState::TrainingState(const Model& model, float learning_rate, cudaStream_t stream)
    : weights(model.arena_size),
      gradients(model.arena_size),
      m(model.arena_size),
      v(model.arena_size),
      reports(kReports),
      model_(model) {
  // The gaps between tensors stay zero through every update.
  for (const auto* arena : {&weights, &gradients, &m, &v}) clear(*arena, stream);
  set_step(0, learning_rate, stream);
}

void TrainingState::set_step(int64_t iteration, float learning_rate, cudaStream_t stream) {
  CUDA_CHECK(cudaStreamSynchronize(stream));
  step.host() = initial_step_state(iteration, learning_rate, kAdam);
  step.upload(stream);
}

void TrainingState::initialize(uint64_t seed, float learning_rate, cudaStream_t stream) {
  for (const auto* arena : {&weights, &m, &v}) clear(*arena, stream);
  for (size_t i = 0; i < model_.parameters.size(); ++i) {
    const Parameter& parameter = model_.parameters[i];
    if (parameter.name != "kernel") continue;
    // Keras: every weight of a filter window counts as one input and one output.
    const int64_t channels_out = parameter.shape.back();
    const int64_t fan_in = int64_t(parameter.size) / channels_out;
    const int64_t window =
        parameter.shape.size() == 4 ? parameter.shape[0] * parameter.shape[1] : 1;
    glorot_uniform(weights.data() + parameter.offset, parameter.size, fan_in, window * channels_out,
                   seed, kInitStream + uint32_t(i), stream);
  }
  set_step(0, learning_rate, stream);
}

void TrainingState::load(const OptimizerState& state, cudaStream_t stream) {
  const struct {
    const std::vector<float>& from;
    const DeviceBuffer<float>& to;
  } arenas[] = {{state.weights, weights}, {state.m, m}, {state.v, v}};
  for (const auto& arena : arenas) {
    if (arena.from.empty()) {  // a file without optimizer state: fresh moments
      clear(arena.to, stream);
      continue;
    }
    if (arena.from.size() != model_.arena_size)
      throw Error(ExitCode::kInternal, "the state to load does not fit the model's arena");
    CUDA_CHECK(cudaMemcpyAsync(arena.to.data(), arena.from.data(), arena.to.bytes(),
                               cudaMemcpyHostToDevice, stream));
  }
  set_step(state.iteration, state.learning_rate, stream);
}

void TrainingState::begin_epoch(int64_t samples, int64_t first, const Metrics& sums,
                                cudaStream_t stream) {
  step.download(stream);
  CUDA_CHECK(cudaStreamSynchronize(stream));
  step.host().epoch_begin = step.host().iteration - first;
  step.host().samples = int32_t(samples);
  step.upload(stream);
  metrics.host() = to_sums(sums);
  metrics.host().batches = first;
  metrics.host().reports = reports.data();
  metrics.upload(stream);
}

}  // namespace mnist::MNIST_TARGET
