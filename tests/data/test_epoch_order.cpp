// The order of an epoch: a permutation, unbiased, a function of its arguments, known values.
#include "host/data/epoch_order.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "tests/support/catch.h"

namespace mnist {

TEST_CASE("every epoch visits every sample once", "[permutation]") {
  for (const int64_t count : {0, 1, 2, 3, 127, 60000}) {
    std::vector<int32_t> order = epoch_order(count, 7, 2, true);
    REQUIRE(int64_t(order.size()) == count);
    if (count > 100) CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < count; ++i) REQUIRE(order[size_t(i)] == i);
  }
}

TEST_CASE("without shuffling the order is the data's", "[permutation]") {
  std::vector<int32_t> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(epoch_order(100, 7, 2, false) == expected);
}

TEST_CASE("an order follows from seed and epoch alone", "[permutation]") {
  CHECK(epoch_order(1000, 7, 2, true) == epoch_order(1000, 7, 2, true));
  std::set<std::vector<int32_t>> orders;
  for (const uint64_t seed : {uint64_t(0), uint64_t(1), uint64_t(1) << 32, ~uint64_t(0)})
    for (const int64_t epoch : {int64_t(0), int64_t(1), int64_t(2), int64_t(1) << 32})
      orders.insert(epoch_order(50, seed, epoch, true));
  CHECK(orders.size() == 16);
}

TEST_CASE("known orders", "[permutation]") {
  // From an independent implementation: tests/interop/permutation.py.
  CHECK(epoch_order(10, 42, 3, true) == std::vector<int32_t>{7, 4, 6, 3, 2, 9, 1, 8, 0, 5});
  CHECK(epoch_order(12, 0x123456789abcdef0u, 5000000000, true) ==
        std::vector<int32_t>{3, 1, 4, 8, 11, 5, 10, 7, 0, 9, 6, 2});
}

// Each of the 24 orders of 4 samples within 5 standard deviations of its share; the chance of a
// failure by accident is below 24 * 6e-7, and the outcome is fixed by the seeds.
TEST_CASE("all orders are equally likely", "[permutation]") {
  constexpr int kDraws = 48'000;
  std::map<std::vector<int32_t>, int> counts;
  for (int epoch = 0; epoch < kDraws; ++epoch) ++counts[epoch_order(4, 99, epoch, true)];
  REQUIRE(counts.size() == 24);
  const double share = kDraws / 24.0;
  for (const auto& [order, count] : counts)
    CHECK(std::abs(count - share) <= 5 * std::sqrt(share * (1 - 1 / 24.0)));
}

TEST_CASE("orders made ahead are those of their epochs", "[epoch_order]") {
  EpochOrders orders(500, 3, true);
  for (const int64_t epoch : {4, 5, 6, 2, 3, 3}) {
    CHECK(orders.get(epoch) == epoch_order(500, 3, epoch, true));
  }
}

}  // namespace mnist
