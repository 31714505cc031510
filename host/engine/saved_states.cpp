#include "host/engine/saved_states.h"

#include <atomic>
#include <utility>

namespace mnist::MNIST_TARGET {

// Pinned memory for one state.
class SavedStates::Place {
 public:
  explicit Place(size_t arena_size) : arenas(3 * arena_size), step(1) {}

  const PinnedBuffer<float> arenas;  // as on the device
  const PinnedBuffer<StepState> step;
  Event arrived;
  std::atomic<bool> taken = false;
};

class SavedStates::Lease final : public SavedState {
 public:
  Lease(Place& place, int device) : place_(place), device_(device) {}
  ~Lease() override { place_.taken = false; }

  void get(OptimizerState& state) override {
    CUDA_CHECK(cudaSetDevice(device_));  // this thread may be another one
    place_.arrived.synchronize();
    const size_t size = place_.arenas.size() / 3;
    const float* from = place_.arenas.data();
    for (std::vector<float>* to : {&state.weights, &state.m, &state.v})
      to->assign(from, from + size), from += size;
    state.iteration = place_.step[0].iteration;
    state.learning_rate = place_.step[0].learning_rate;
  }

 private:
  Place& place_;
  const int device_;
};

namespace {

int current_device() {
  int device = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  return device;
}

}  // namespace

SavedStates::SavedStates(size_t arena_size)
    : arena_size_(arena_size), device_(current_device()), arenas_(3 * arena_size), step_(1) {}

SavedStates::~SavedStates() = default;

SavedStates::Place& SavedStates::free_place() {
  for (const auto& place : places_)
    if (!place->taken) return *place;
  return *places_.emplace_back(std::make_unique<Place>(arena_size_));
}

std::unique_ptr<SavedState> SavedStates::begin(const TrainingState& state, cudaStream_t compute) {
  Place& place = free_place();
  read_.make_wait(compute);
  float* to = arenas_.data();
  for (const DeviceBuffer<float>* from : {&state.weights, &state.m, &state.v}) {
    CUDA_CHECK(cudaMemcpyAsync(to, from->data(), from->bytes(), cudaMemcpyDeviceToDevice, compute));
    to += arena_size_;
  }
  CUDA_CHECK(cudaMemcpyAsync(step_.data(), state.step.device(), step_.bytes(),
                             cudaMemcpyDeviceToDevice, compute));
  taken_.record(compute);

  taken_.make_wait(copy_);
  CUDA_CHECK(cudaMemcpyAsync(place.arenas.data(), arenas_.data(), arenas_.bytes(),
                             cudaMemcpyDeviceToHost, copy_));
  CUDA_CHECK(cudaMemcpyAsync(place.step.data(), step_.data(), step_.bytes(), cudaMemcpyDeviceToHost,
                             copy_));
  read_.record(copy_);
  place.arrived.record(copy_);
  place.taken = true;
  return std::make_unique<Lease>(place, device_);
}

}  // namespace mnist::MNIST_TARGET
