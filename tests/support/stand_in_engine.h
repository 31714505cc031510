// An engine that answers what a test wants.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "host/engine/engine.h"

namespace mnist::test {

class StandInEngine : public Engine {
 public:
  // From an image [pixels] to its row of probabilities.
  using Answer = std::function<std::vector<float>(std::span<const uint8_t> image)>;
  explicit StandInEngine(Answer answer, size_t pixels = 28 * 28)
      : answer_(std::move(answer)), pixels_(pixels) {}

  const DeviceInfo& device() const override { return device_; }
  std::vector<float> predict(const uint8_t* images, int64_t count) override {
    std::vector<float> all;
    for (int64_t i = 0; i < count; ++i) {
      const std::vector<float> row = answer_({images + size_t(i) * pixels_, pixels_});
      all.insert(all.end(), row.begin(), row.end());
    }
    return all;
  }

  void initialize() override {}
  void load(const OptimizerState&) override {}
  std::unique_ptr<SavedState> begin_save() override { return nullptr; }
  void set_training_set(const Samples&) override {}
  void set_validation_set(const Samples&) override {}
  Metrics train_epoch(std::span<const int32_t>, int64_t, const Metrics&, const Progress&) override {
    return {};
  }
  size_t step_nodes() const override { return 0; }
  Metrics evaluate() override { return {}; }

 private:
  DeviceInfo device_{.target = Target::kCpu, .name = "stand-in", .architecture = {}};
  Answer answer_;
  size_t pixels_;
};

}  // namespace mnist::test
