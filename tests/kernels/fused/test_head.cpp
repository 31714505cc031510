// The head of the FP16 step: loss and hits, every gradient, dense1's update; short batches,
// reports, saturation, and what is not finite. Also the logits of evaluation.
#include "kernels/fused/fused.h"
#include "kernels/kernels.h"
#include "tests/kernels/fused/rounded.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

using namespace test;
using fused::kClasses, fused::kFlat, fused::kHidden, fused::kPaddedClasses;

constexpr size_t kFilter1 = size_t(kFlat) * kHidden;
constexpr size_t kAtFilter = 4, kAtBias2 = kAtFilter + kFilter1;  // in the arenas

struct Expected {
  std::vector<Uncertain> logits;  // [batch][10]
  Uncertain loss;
  int correct = 0;
  std::vector<Uncertain> da2, g, sums;  // g: dense1's filter gradient, times kLossScale
};

struct HeadCase {
  explicit HeadCase(int batch, float most_w2 = 0.3f) : batch(batch), rows(batch) {
    Random random{uint64_t(batch)};
    a2 = rectified_halves(random, batch, kFlat);
    h = rectified_halves(random, batch, kHidden);
    w1 = halves_of(random.reals(kFilter1, -0.1f, 0.1f));
    w2 = halves_of(random.reals(size_t(kHidden) * kPaddedClasses, -most_w2, most_w2));
    for (size_t i = 0; i < w2.size(); ++i)
      if (i % kPaddedClasses >= kClasses) w2[i] = 0;
    weights = random.reals(kAtBias2 + kClasses);
    m = random.reals(weights.size(), -1e-3f, 1e-3f);
    v = random.reals(weights.size(), 0, 1e-6f);
    labels = random.bytes(size_t(batch), 0, kClasses - 1);
  }

  StepState state() const {
    return {102, 100, 2 * batch + rows, 0.001f, 0.9f, 0.999f, 0.9, 0.999, 0.5f};
  }

  void describe(DeviceCase& device, FusedMemory& memory) const {
    memory.a2 = const_cast<uint16_t*>(device.input(a2));
    memory.h = const_cast<uint16_t*>(device.input(h));
    memory.dense2_w = const_cast<uint16_t*>(device.input(w2));
    memory.dense1_w = device.in_out(w1);
    memory.weights = device.in_out(weights);
    memory.m = device.in_out(m);
    memory.v = device.in_out(v);
    memory.at.dense1_w = kAtFilter;
    memory.at.dense2_b = kAtBias2;
    memory.da2 = device.in_out(std::vector<uint16_t>(padded(batch) * kFlat));
    memory.head_sums = device.output<float>(fused::kHeadSums);
    memory.state = const_cast<StepState*>(device.input(std::vector<StepState>{state()}));
    memory.metrics = device.in_out(std::vector<MetricSums>{before});
  }

  Expected expected() const {
    const auto x = values_of(a2), hidden = values_of(h), filter1 = values_of(w1),
               filter2 = values_of(w2);
    const auto n = size_t(rows);
    Expected want;
    std::vector<Uncertain> dlogits(n * kClasses), dh(n * kHidden);
    for (size_t row = 0; row < n; ++row) {
      double z[kClasses], error = 0, maximum = -INFINITY, total = 0;
      int best = 0;
      for (size_t c = 0; c < kClasses; ++c) {
        Sum sum;
        sum.add(weights[kAtBias2 + c], 1);
        for (size_t j = 0; j < kHidden; ++j)
          sum.add(hidden[row * kHidden + j], filter2[j * kPaddedClasses + c]);
        const Uncertain logit = sum.result();
        want.logits.push_back(logit);
        z[c] = logit.value;
        // Softmax is checked more strictly than the sums: by what float32 may lose.
        error = std::max(error, logit.error / 10);
        if (z[c] > maximum) {
          maximum = z[c];
          best = int(c);
        }
      }
      for (double logit : z) total += std::exp(logit - maximum);
      const size_t label = labels[row];
      if (label < kClasses) {
        want.loss.value += std::log(total) + maximum - z[label];
        want.loss.error += 2 * error + 1e-6;
        want.correct += best == int(label);
      }
      for (size_t c = 0; c < kClasses; ++c) {
        const double p = std::exp(z[c] - maximum) / total, scale = double(kLossScale) / rows;
        dlogits[row * kClasses + c] = test::round_to_half(
            {(p - (c == label ? 1 : 0)) * scale, (2 * error * p + 1e-6 * p + 1e-7) * scale});
      }
      for (size_t j = 0; j < kHidden; ++j) {
        Sum sum;
        for (size_t c = 0; c < kClasses; ++c)
          sum.add(dlogits[row * kClasses + c], filter2[j * kPaddedClasses + c]);
        if (hidden[row * kHidden + j] > 0)
          dh[row * kHidden + j] = test::round_to_half(sum.result());
      }
    }

    want.da2.resize(padded(batch) * kFlat);
    std::vector<Sum> g(kFilter1);
    for (size_t row = 0; row < n; ++row)
      for (size_t i = 0; i < kFlat; ++i) {
        const double input = x[row * kFlat + i];
        if (!(input > 0)) continue;
        Sum sum;
        for (size_t j = 0; j < kHidden; ++j) {
          sum.add(dh[row * kHidden + j], filter1[i * kHidden + j]);
          g[i * kHidden + j].add(dh[row * kHidden + j], input);
        }
        want.da2[row * kFlat + i] = test::round_to_half(sum.result());
      }
    for (const Sum& sum : g) want.g.push_back(sum.result());

    std::vector<Sum> sums(fused::kHeadSums);
    for (size_t row = 0; row < n; ++row) {
      for (size_t j = 0; j < kHidden; ++j) {
        sums[j].add(dh[row * kHidden + j], 1);
        for (size_t c = 0; c < kClasses; ++c)
          sums[kHidden + j * kClasses + c].add(dlogits[row * kClasses + c],
                                               hidden[row * kHidden + j]);
      }
      for (size_t c = 0; c < kClasses; ++c)
        sums[kHidden + size_t(kHidden) * kClasses + c].add(dlogits[row * kClasses + c], 1);
    }
    for (const Sum& sum : sums) want.sums.push_back(sum.result());
    return want;
  }

  int batch, rows;  // rows: of the batch, those that are real
  std::vector<uint16_t> a2, h, w1, w2;
  std::vector<float> weights, m, v;
  std::vector<uint8_t> labels;
  MetricSums before{};
};

struct Result {
  std::vector<double> da2, w1;
  std::vector<float> weights, m, v, sums;
  MetricSums metrics;
};

Result run(const HeadCase& head, int times = 1) {
  DeviceCase device;
  FusedMemory memory{};
  head.describe(device, memory);
  const uint8_t* labels = device.input(head.labels);
  device.run(
      [&](cudaStream_t stream) { fused_head(memory, labels, head.batch, AdamParams{}, stream); },
      times);
  return {values_of(device.result(memory.da2)),
          values_of(device.result(memory.dense1_w)),
          device.result(memory.weights),
          device.result(memory.m),
          device.result(memory.v),
          device.result(memory.head_sums),
          device.result(memory.metrics).front()};
}

// Adam's update of dense1's filter, and of nothing else.
void require_update(const HeadCase& head, const Result& result, const Expected& want) {
  const StepState state = head.state();
  const double alpha = double(state.learning_rate) * double(state.bias_correction);
  std::vector<Uncertain> m, v, w;
  std::vector<double> w1;
  for (size_t i = 0; i < head.weights.size(); ++i) {
    const double old_m = head.m[i], old_v = head.v[i], old_w = head.weights[i];
    if (i < kAtFilter || i >= kAtBias2) {
      m.push_back({old_m, 0});
      v.push_back({old_v, 0});
      w.push_back({old_w, 0});
      continue;
    }
    const Uncertain sum = want.g[i - kAtFilter];
    const double g = sum.value / double(kLossScale), error = sum.error / double(kLossScale);
    m.push_back({old_m + (g - old_m) * 0.1, error * 0.1 + 1e-6 * (std::abs(g) + std::abs(old_m))});
    v.push_back({old_v + (g * g - old_v) * 0.001,
                 (2 * std::abs(g) + error) * error * 0.001 + 1e-6 * (g * g + old_v)});
    // Of the moments that the kernel stored.
    const double step = alpha * double(result.m[i]) / (std::sqrt(double(result.v[i])) + 1e-7);
    w.push_back({old_w - step, 1e-6 * (std::abs(old_w) + std::abs(step))});
    w1.push_back(test::round_to_half(double(result.weights[i])));
  }
  REQUIRE(test::difference(result.m, m) == "");
  REQUIRE(test::difference(result.v, v) == "");
  REQUIRE(test::difference(result.weights, w) == "");
  REQUIRE(result.w1 == w1);
}

void require_match(const HeadCase& head, const Result& result, const Expected& want) {
  REQUIRE(test::difference(result.da2, want.da2) == "");
  REQUIRE(test::difference(result.sums, want.sums) == "");
  require_update(head, result, want);
  REQUIRE(std::abs(result.metrics.loss - want.loss.value) <= want.loss.error);
  REQUIRE(result.metrics.correct == want.correct);
  REQUIRE(result.metrics.samples == head.rows);
  REQUIRE(result.metrics.batches == 1);
  REQUIRE(result.metrics.first_nonfinite == 0);
}

TEST_CASE("fused head", "[fused][fused_head]") {
  for (int batch : {1, 5, 16, 96, 128}) {
    DYNAMIC_SECTION(batch << " rows") {
      const HeadCase head(batch);
      const Result result = run(head);
      require_match(head, result, head.expected());
      REQUIRE(result.metrics.saturated == 0);
    }
  }
}

TEST_CASE("fused head counts the rows that the step has", "[fused][fused_head]") {
  for (int rows : {37, 33, 32, 1, 0}) {
    DYNAMIC_SECTION(rows << " rows") {
      HeadCase head(37);
      head.rows = rows;
      // The rows after the end may hold any number.
      require_match(head, run(head), head.expected());
    }
  }
}

TEST_CASE("fused head finds the first of equal logits", "[fused][fused_head]") {
  HeadCase head(64);
  for (uint16_t& half : head.w2) half = 0;
  for (size_t c = 0; c < kClasses; ++c) head.weights[kAtBias2 + c] = c == 4 || c == 8 ? 2.f : 1.f;
  const MetricSums metrics = run(head).metrics;
  REQUIRE(metrics.correct == std::count(head.labels.begin(), head.labels.end(), 4));
}

TEST_CASE("fused head adds to the metrics, and reports them", "[fused][fused_head]") {
  HeadCase head(24);
  head.before = {1000.5, 70000000000, 80000000000, 0, kReportBatches - 3, 0, 0, nullptr, 77};
  const Expected want = head.expected();
  DeviceCase device;
  FusedMemory memory{};
  std::vector<MetricSums> h_reports(kReports);
  for (MetricSums& sums : h_reports) sums.batches = -1;
  head.before.reports = device.in_out(h_reports);
  head.describe(device, memory);
  const uint8_t* labels = device.input(head.labels);
  // The filter does not take part in the loss: three times the same. In a step, other kernels stand
  // between one head and the next, whose prologue reads what the former wrote; here, a fill does.
  float* elsewhere = device.in_out(std::vector<float>(4));
  device.run(
      [&](cudaStream_t stream) {
        REQUIRE(cudaMemsetAsync(elsewhere, 0, 4 * sizeof(float), stream) == cudaSuccess);
        fused_head(memory, labels, head.batch, AdamParams{}, stream);
      },
      3);
  const MetricSums after = device.result(memory.metrics).front();
  REQUIRE(std::abs(after.loss - head.before.loss - 3 * want.loss.value) <= 3 * want.loss.error);
  REQUIRE(after.correct == head.before.correct + 3 * want.correct);
  REQUIRE(after.samples == head.before.samples + 3 * head.rows);
  REQUIRE(after.batches == kReportBatches);
  REQUIRE(after.saturated == 77);
  const auto reports = device.result(head.before.reports);
  REQUIRE(reports[0].batches == kReportBatches);
  REQUIRE(reports[0].loss == after.loss);
  REQUIRE(reports[0].saturated == 77);
  REQUIRE(reports[1].batches == -1);
}

TEST_CASE("fused head reports what is not finite", "[fused][fused_head]") {
  HeadCase head(35);
  SECTION("NaN in h") {
    head.h[34 * kHidden + 127] = 0x7e00;
  }
  SECTION("NaN in the second filter") {
    head.w2[127 * kPaddedClasses + 9] = 0x7e00;
  }
  SECTION("infinite bias") {
    head.weights[kAtBias2 + 3] = INFINITY;
  }
  SECTION("label that is no class") {
    head.labels[34] = kClasses;
  }
  SECTION("label far off") {
    head.labels[0] = 255;
  }
  const MetricSums metrics = run(head).metrics;
  REQUIRE(metrics.first_nonfinite == 1);
  REQUIRE_FALSE(std::isfinite(metrics.loss));
}

TEST_CASE("fused head keeps a NaN", "[fused][fused_head]") {
  HeadCase head(20);
  head.h[3 * kHidden + 5] = 0x7e00;
  const Result result = run(head);
  // It is in the gradient of the row's logits, hence in all that the row adds to.
  for (size_t i = 0; i < kFlat; ++i)
    if (from_half(head.a2[3 * kFlat + i]) > 0) REQUIRE(std::isnan(result.da2[3 * kFlat + i]));
  REQUIRE(std::isnan(result.sums.back()));
  REQUIRE(result.metrics.saturated == 0);
}

TEST_CASE("fused head saturates, and counts it", "[fused][fused_head]") {
  HeadCase head(1, 1000);
  head.labels[0] = 0;
  head.weights[kAtBias2] = -1e6f;  // the least likely class: its gradient is -kLossScale
  const Result result = run(head);
  const Expected want = head.expected();
  require_match(head, result, want);
  const auto is_largest = [](const Uncertain& v) { return std::abs(v.value) == kLargestHalf; };
  const auto in_da2 = std::count_if(want.da2.begin(), want.da2.end(), is_largest);
  // The sums of one row are dh itself.
  const auto in_dh = std::count_if(want.sums.begin(), want.sums.begin() + kHidden, is_largest);
  REQUIRE(in_dh > 10);
  REQUIRE(in_da2 > 10);
  REQUIRE(result.metrics.saturated == (unsigned long long)(in_dh + in_da2));
}

TEST_CASE("fused head saturates a weight", "[fused][fused_head]") {
  HeadCase head(3);
  head.weights[kAtFilter + 1234] = 70000;
  const Result result = run(head);
  REQUIRE(result.w1[1234] == kLargestHalf);
  REQUIRE(result.metrics.saturated == 1);
}

TEST_CASE("fused head refuses other batches", "[fused][fused_head]") {
  const FusedMemory memory{};
  const uint8_t label = 0;
  for (int batch : {0, -1, kFusedBatch + 1})
    REQUIRE_THROWS_AS(fused_head(memory, &label, batch, AdamParams{}, nullptr),
                      std::invalid_argument);
  REQUIRE_THROWS_AS(fused_head(memory, nullptr, 1, AdamParams{}, nullptr), std::invalid_argument);
  REQUIRE_THROWS_AS(fused_head(memory, &label, 1, AdamParams{1.0f}, nullptr),
                    std::invalid_argument);
}

TEST_CASE("fused logits", "[fused][fused_logits]") {
  for (int n : {1, 16, 128, 300}) {
    DYNAMIC_SECTION(n << " rows") {
      HeadCase head(n);
      DeviceCase device;
      FusedMemory memory{};
      memory.h = const_cast<uint16_t*>(device.input(head.h));
      memory.dense2_w = const_cast<uint16_t*>(device.input(head.w2));
      memory.weights = const_cast<float*>(device.input(head.weights));
      memory.at.dense2_b = kAtBias2;
      float* logits = device.output<float>(size_t(n) * kClasses);
      device.run([&](cudaStream_t stream) { fused_logits(logits, memory, n, stream); });
      std::vector<Uncertain> want;
      const auto hidden = values_of(head.h), filter = values_of(head.w2);
      for (size_t row = 0; row < size_t(n); ++row)
        for (size_t c = 0; c < kClasses; ++c) {
          Sum sum;
          sum.add(head.weights[kAtBias2 + c], 1);
          for (size_t j = 0; j < kHidden; ++j)
            sum.add(hidden[row * kHidden + j], filter[j * kPaddedClasses + c]);
          want.push_back(sum.result());
        }
      REQUIRE(test::difference(device.result(logits), want) == "");
    }
  }
  const FusedMemory memory{};
  float logit = 0;
  REQUIRE_THROWS_AS(fused_logits(&logit, memory, 0, nullptr), std::invalid_argument);
  REQUIRE_THROWS_AS(fused_logits(nullptr, memory, 1, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
