// The synthetic digits: a function of (seed, index) alone, and like MNIST's in what MNIST's
// normalisation fixes (measured on its test images: ink on 5.6-39.7 % of the pixels, 19.3 % on
// average, centre of mass in [14,15]).
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "host/data/synthetic.h"
#include "tests/support/catch.h"
#include "tests/support/data_files.h"

using mnist::ImageSet;
using mnist::synthetic_digits;

namespace {

constexpr size_t kPixels = 28 * 28;

std::span<const uint8_t> image(const ImageSet& set, size_t i) {
  return std::span(set.images).subspan(i * kPixels, kPixels);
}

}  // namespace

TEST_CASE("synthetic digits are the same bytes on every machine") {
  const ImageSet set = synthetic_digits(1000, 1);
  CHECK(mnist::test::sha256_hex(set.images) ==
        "b86655083c3b82ad1ddbb9debafde1067f5ae65f7a5a29869f462c0ec1a9543f");
  CHECK(mnist::test::sha256_hex(set.labels) ==
        "4c235be8a189d2b679a50282f254389ef3a758456e826ca25f143a3bcbdfb882");
}

TEST_CASE("a synthetic digit depends on seed and index, not on the count") {
  const ImageSet few = synthetic_digits(37, 5), many = synthetic_digits(100, 5);
  CHECK(std::equal(few.images.begin(), few.images.end(), many.images.begin()));
  CHECK(std::equal(few.labels.begin(), few.labels.end(), many.labels.begin()));

  const uint64_t other_low = 6, other_high = 5 + (uint64_t(1) << 32);
  CHECK(synthetic_digits(100, other_low).images != many.images);
  CHECK(synthetic_digits(100, other_high).images != many.images);
}

TEST_CASE("no synthetic digits are an empty set of 28x28 images") {
  const ImageSet none = synthetic_digits(0, 1);
  CHECK(none.count == 0);
  CHECK(none.height == 28);
  CHECK(none.width == 28);
  CHECK(none.images.empty());
  CHECK(none.labels.empty());
}

TEST_CASE("every ten synthetic digits hold each digit once, in no fixed order") {
  const ImageSet set = synthetic_digits(2000, 3);
  REQUIRE(set.count == 2000);
  REQUIRE(set.labels.size() == 2000);
  std::array<int, 10> first{};
  for (size_t i = 0; i < set.labels.size(); i += 10) {
    std::array<int, 10> seen{};
    for (size_t k = 0; k < 10; ++k) {
      REQUIRE(set.labels[i + k] < 10);
      ++seen[set.labels[i + k]];
    }
    CHECK(std::ranges::count(seen, 1) == 10);
    ++first[set.labels[i]];
  }
  for (int times : first) CHECK((times > 3 && times < 45));  // 20 expected
}

TEST_CASE("synthetic digits are normalised as MNIST's are") {
  const ImageSet set = synthetic_digits(5000, 2);
  REQUIRE(set.images.size() == 5000 * kPixels);
  double inked = 0, mass = 0;
  for (size_t i = 0; i < 5000; ++i) {
    const std::span<const uint8_t> pixels = image(set, i);
    int64_t ink = 0, sum_x = 0, sum_y = 0, covered = 0;
    int left = 28, right = -1, top = 28, bottom = -1;
    for (int y = 0; y < 28; ++y) {
      for (int x = 0; x < 28; ++x) {
        const int value = pixels[size_t(y * 28 + x)];
        if (value == 0) continue;
        ++covered;
        ink += value;
        sum_x += value * (2 * x + 1);
        sum_y += value * (2 * y + 1);
        left = std::min(left, x), right = std::max(right, x);
        top = std::min(top, y), bottom = std::max(bottom, y);
      }
    }
    REQUIRE(ink > 0);
    INFO("image " << i << ", digit " << int(set.labels[i]));
    CHECK(*std::ranges::max_element(pixels) >= 254);
    const double x = 0.5 * double(sum_x) / double(ink), y = 0.5 * double(sum_y) / double(ink);
    CHECK((x >= 14 && x <= 15));
    CHECK((y >= 14 && y <= 15));
    const int side = std::max(right - left, bottom - top) + 1;
    CHECK((side >= 19 && side <= 20));
    CHECK((covered >= 30 && covered <= 353));
    inked += double(covered);
    mass += double(ink) / 255;
  }
  const double coverage = inked / double(5000 * kPixels), mean = mass / double(5000 * kPixels);
  CHECK((coverage > 0.17 && coverage < 0.22));
  CHECK((mean > 0.11 && mean < 0.15));
}

TEST_CASE("synthetic digits of one label differ") {
  const ImageSet set = synthetic_digits(500, 4);
  for (size_t i = 0; i < 500; ++i) {
    for (size_t k = i + 1; k < 500; ++k) {
      REQUIRE_FALSE(std::ranges::equal(image(set, i), image(set, k)));
    }
  }
}
