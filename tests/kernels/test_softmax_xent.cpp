// Softmax and cross-entropy: values, gradients, counts, short batches, and what is not finite.
#include "kernels/kernels.h"
#include "tests/support/compare.h"
#include "tests/support/device_case.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {
namespace {

struct Size {
  int n, classes;
};

std::vector<Size> sizes() {
  std::vector<Size> all = {{128, 10}, {1, 1}, {5, 300}, {1000, 3}};
  for (int n : {1, 31, 32, 33, 257})
    for (int classes : {2, 10, 31, 32, 33, 64, 100}) all.push_back({n, classes});
  return all;
}

struct Result {
  std::vector<float> dlogits;
  MetricSums metrics;
};

// An empty `state` is a null pointer.
Result run(const std::vector<float>& h_logits, const std::vector<uint8_t>& h_labels,
           const std::vector<StepState>& h_state, const Size& size, bool with_dlogits = true,
           const MetricSums& before = {}, int times = 1) {
  DeviceCase device;
  const float* logits = device.input(h_logits);
  const uint8_t* labels = device.input(h_labels);
  StepState* state = device.in_out(h_state);
  float* dlogits = device.output<float>(with_dlogits ? h_logits.size() : 0);
  MetricSums* metrics = device.in_out(std::vector<MetricSums>{before});
  float* workspace = device.workspace(softmax_xent_workspace(size.n));
  device.run(
      [&](cudaStream_t stream) {
        softmax_xent(dlogits, metrics, workspace, logits, labels, state, size.n, size.classes,
                     stream);
      },
      times);
  return {with_dlogits ? device.result(dlogits) : std::vector<float>{},
          device.result(metrics).front()};
}

void require_match(const Result& result, const reference::CrossEntropy& want, int rows,
                   const Size& size) {
  REQUIRE(difference(result.dlogits, want.dlogits, {size.n, size.classes}) == "");
  REQUIRE(difference<double>({result.metrics.loss}, want.loss, {1}) == "");
  REQUIRE(result.metrics.correct == want.correct);
  REQUIRE(result.metrics.samples == rows);
  REQUIRE(result.metrics.batches == 1);
  REQUIRE(result.metrics.first_nonfinite == 0);
  REQUIRE(result.metrics.ticket == 0);
}

TEST_CASE("softmax_xent", "[softmax_xent]") {
  for (const Size& size : sizes()) {
    DYNAMIC_SECTION(size.n << " rows, " << size.classes << " classes") {
      Random random;
      const auto logits = random.reals(size_t(size.n) * size_t(size.classes), -8, 8);
      const auto labels = random.bytes(size_t(size.n), 0, std::min(size.classes, 256) - 1);
      const auto want =
          reference::softmax_xent(widen(logits), labels, size.n, size.n, size.classes);
      require_match(run(logits, labels, {}, size), want, size.n, size);
      const Result without = run(logits, labels, {}, size, false);
      REQUIRE(difference<double>({without.metrics.loss}, want.loss, {1}) == "");
      REQUIRE(without.metrics.correct == want.correct);
    }
  }
}

TEST_CASE("softmax_xent of extreme and of equal logits", "[softmax_xent]") {
  const Size size = {67, 10};
  Random random;
  std::vector<float> logits(size_t(size.n) * size_t(size.classes));
  const auto labels = random.bytes(size_t(size.n), 0, size.classes - 1);
  SECTION("+-10000") {
    for (float& logit : logits) logit = random.integer(0, 1) ? 1e4f : -1e4f;
  }
  SECTION("all large") {
    for (float& logit : logits) logit = 1e30f;
  }
  SECTION("all zero: the first class is the largest") {}
  SECTION("few values") {
    for (float& logit : logits) logit = float(random.integer(-1, 1));
  }
  require_match(run(logits, labels, {}, size),
                reference::softmax_xent(widen(logits), labels, size.n, size.n, size.classes),
                size.n, size);
}

TEST_CASE("softmax_xent counts the rows that the step has", "[softmax_xent]") {
  const Size size = {37, 10};
  for (int rows : {37, 36, 33, 32, 5, 1, 0}) {
    DYNAMIC_SECTION(rows << " rows") {
      Random random;
      auto logits = random.reals(size_t(size.n) * size_t(size.classes), -8, 8);
      const auto labels = random.bytes(size_t(size.n), 0, size.classes - 1);
      const auto want = reference::softmax_xent(widen(logits), labels, rows, size.n, size.classes);
      // The rows after the end may hold anything.
      for (size_t i = size_t(rows) * size_t(size.classes); i < logits.size(); ++i)
        logits[i] = std::numeric_limits<float>::quiet_NaN();
      // Third batch of an epoch that began at update 100.
      const StepState state = {102, 100, 2 * size.n + rows, 0.001f, 0.9f, 0.999f, 1, 1, 0};
      require_match(run(logits, labels, {state}, size), want, rows, size);
    }
  }
}

TEST_CASE("softmax_xent reports the metrics now and then", "[softmax_xent]") {
  const Size size = {40, 10};
  Random random;
  const auto logits = random.reals(size_t(size.n) * size_t(size.classes), -8, 8);
  const auto labels = random.bytes(size_t(size.n), 0, size.classes - 1);
  // From three batches before a report to the last but one before the next.
  for (const int report : {0, 1, kReports - 1, kReports, 5 * kReports + 2}) {
    MetricSums before{};
    before.batches = int64_t{report + 1} * kReportBatches - 3;
    before.saturated = 5;
    DeviceCase device;
    std::vector<MetricSums> h_reports(kReports);
    for (MetricSums& sums : h_reports) sums.batches = -1;
    before.reports = device.in_out(h_reports);
    MetricSums* metrics = device.in_out(std::vector<MetricSums>{before});
    const float* d_logits = device.input(logits);
    const uint8_t* d_labels = device.input(labels);
    float* workspace = device.workspace(softmax_xent_workspace(size.n));
    device.run(
        [&](cudaStream_t stream) {
          softmax_xent(nullptr, metrics, workspace, d_logits, d_labels, nullptr, size.n,
                       size.classes, stream);
        },
        kReportBatches + 2);
    const auto reports = device.result(before.reports);
    for (int i = 0; i < kReports; ++i) {
      const bool written = i == report % kReports;
      REQUIRE(reports[size_t(i)].batches == (written ? before.batches + 3 : -1));
      if (!written) continue;
      REQUIRE(reports[size_t(i)].samples == 3 * size.n);
      REQUIRE(reports[size_t(i)].ticket == 0);
      REQUIRE(reports[size_t(i)].saturated == before.saturated);
    }
    REQUIRE(device.result(metrics).front().batches == before.batches + kReportBatches + 2);
  }
}

TEST_CASE("softmax_xent adds to the metrics", "[softmax_xent]") {
  const Size size = {40, 10};
  Random random;
  const auto logits = random.reals(size_t(size.n) * size_t(size.classes), -8, 8);
  const auto labels = random.bytes(size_t(size.n), 0, size.classes - 1);
  auto want = reference::softmax_xent(widen(logits), labels, size.n, size.n, size.classes);
  const MetricSums before = {1000.5, 70000000000, 80000000000, 0, 12, 0, 0, nullptr, 77};
  const MetricSums after = run(logits, labels, {}, size, true, before, 3).metrics;
  want.loss.value[0] = 3 * want.loss.value[0] + before.loss;
  want.loss.magnitude[0] *= 3;
  REQUIRE(difference<double>({after.loss}, want.loss, {1}) == "");
  REQUIRE(after.correct == before.correct + 3 * want.correct);
  REQUIRE(after.samples == before.samples + 3 * size.n);
  REQUIRE(after.batches == before.batches + 3);
  REQUIRE(after.first_nonfinite == 0);
  REQUIRE(after.saturated == before.saturated);  // others count there
}

TEST_CASE("softmax_xent reports the first batch that is not finite", "[softmax_xent]") {
  const int n = 35, classes = 10;
  Random random;
  const auto good_logits = random.reals(size_t(n) * classes);
  const auto good_labels = random.bytes(size_t(n), 0, classes - 1);
  auto bad_logits = good_logits;
  auto bad_labels = good_labels;
  SECTION("NaN logit") {
    bad_logits[34 * classes + 3] = std::numeric_limits<float>::quiet_NaN();
  }
  SECTION("NaN as the first logit") {
    bad_logits[0] = std::numeric_limits<float>::quiet_NaN();
  }
  SECTION("infinite logit") {
    bad_logits[77] = std::numeric_limits<float>::infinity();
  }
  SECTION("label out of range") {
    bad_labels[34] = classes;
  }
  SECTION("label far out of range") {
    bad_labels[0] = 255;
  }
  SECTION("label without probability") {
    bad_logits[good_labels[3] + 3 * classes] = -std::numeric_limits<float>::infinity();
  }

  DeviceCase device;
  const float* good_z = device.input(good_logits);
  const float* bad_z = device.input(bad_logits);
  const uint8_t* good_y = device.input(good_labels);
  const uint8_t* bad_y = device.input(bad_labels);
  MetricSums* metrics = device.in_out(std::vector<MetricSums>(1));
  float* workspace = device.workspace(softmax_xent_workspace(n));
  const auto batch = [&](const float* logits, const uint8_t* labels, cudaStream_t stream) {
    softmax_xent(nullptr, metrics, workspace, logits, labels, nullptr, n, classes, stream);
  };
  device.run([&](cudaStream_t stream) {
    batch(good_z, good_y, stream);
    batch(bad_z, bad_y, stream);
    batch(good_z, good_y, stream);
    batch(bad_z, bad_y, stream);
  });
  const MetricSums sums = device.result(metrics).front();
  REQUIRE(sums.first_nonfinite == 2);
  REQUIRE_FALSE(std::isfinite(sums.loss));
  REQUIRE(sums.batches == 4);
  REQUIRE(sums.samples == 4 * n);
  REQUIRE(sums.correct <= 4 * n);
}

TEST_CASE("softmax", "[softmax_xent]") {
  for (const Size& size : sizes()) {
    DYNAMIC_SECTION(size.n << " rows, " << size.classes << " classes") {
      Random random;
      const float range = random.integer(0, 1) ? 1e4f : 8.f;
      const auto h_logits = random.reals(size_t(size.n) * size_t(size.classes), -range, range);
      DeviceCase device;
      const float* logits = device.input(h_logits);
      float* probabilities = device.output<float>(h_logits.size());
      device.run([&](cudaStream_t stream) {
        softmax(probabilities, logits, size.n, size.classes, stream);
      });
      REQUIRE(difference(device.result(probabilities),
                         reference::softmax(widen(h_logits), size.n, size.classes),
                         {size.n, size.classes}) == "");
    }
  }
}

TEST_CASE("softmax refuses impossible sizes", "[softmax_xent]") {
  DeviceCase device;
  const float* logits = device.input(std::vector<float>(64));
  const uint8_t* labels = device.input(std::vector<uint8_t>(64));
  float* out = device.output<float>(64);
  float* workspace = device.workspace(4096);
  MetricSums* metrics = device.in_out(std::vector<MetricSums>(1));
  const cudaStream_t stream = device.stream();
  for (const Size& size : {Size{0, 10}, Size{-1, 10}, Size{4, 0}, Size{4, -1}}) {
    REQUIRE_THROWS_AS(softmax_xent(out, metrics, workspace, logits, labels, nullptr, size.n,
                                   size.classes, stream),
                      std::invalid_argument);
    REQUIRE_THROWS_AS(softmax(out, logits, size.n, size.classes, stream), std::invalid_argument);
  }
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
