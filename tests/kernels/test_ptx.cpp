// The instructions of kernels/ptx.cuh, against the tables of the PTX ISA and double precision.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/kernels/warp_kernels.h"
#include "tests/support/catch.h"
#include "tests/support/device_case.h"
#include "tests/support/half.h"
#include "tests/support/random.h"

namespace mnist::MNIST_TARGET {

namespace {

using test::from_half;
using test::half_bits;

bool same_half(uint16_t a, uint16_t b) {
  return a == b || (std::isnan(from_half(a)) && std::isnan(from_half(b)));
}

uint32_t pair(uint16_t low, uint16_t high) {
  return low | uint32_t(high) << 16;
}

}  // namespace

TEST_CASE("ptx: floats to pairs of halves and back", "[ptx]") {
  std::vector<float> from;
  for (uint32_t bits = 0; bits < 65536; ++bits) from.push_back(float(from_half(uint16_t(bits))));
  // Every midpoint of two neighbours, and the floats beside it. The last one is 65520.
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const double low = from_half(uint16_t(bits));
    const double high = bits == 0x7bff ? 65536 : from_half(uint16_t(bits + 1));
    const float middle = float((low + high) / 2);
    for (const float v : {std::nextafterf(middle, 0), middle, std::nextafterf(middle, 1e9f)})
      from.insert(from.end(), {v, -v});
  }
  DeviceCase device;
  const int count = int(from.size() / 2);
  uint32_t* to = device.output<uint32_t>(size_t(count));
  float* back = device.output<float>(from.size());
  const float* input = device.input(from);
  device.run([&](cudaStream_t stream) { test_pack(to, back, input, count, stream); });
  const auto pairs = device.result(to);
  const auto floats = device.result(back);
  int wrong = 0;
  for (size_t i = 0; i < from.size(); ++i) {
    const uint16_t bits = uint16_t(pairs[i / 2] >> 16 * (i % 2));
    const uint16_t want =
        half_bits(std::abs(from[i]) >= 65520 ? std::copysign(INFINITY, double(from[i]))
                                             : test::round_to_half(from[i]));
    const float exact = float(from_half(bits));
    wrong += !same_half(bits, want) ||
             (floats[i] != exact && !(std::isnan(floats[i]) && std::isnan(exact)));
  }
  CHECK(wrong == 0);
}

TEST_CASE("ptx: prmt", "[ptx]") {
  Random random;
  const size_t count = 1000;
  const auto words = [&] {
    const std::vector<uint8_t> bytes = random.bytes(4 * count, 0, 255);
    std::vector<uint32_t> result(count);
    std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  };
  const std::vector<uint32_t> a = words(), b = words(), selectors = words();
  DeviceCase device;
  uint32_t* to = device.output<uint32_t>(count);
  const uint32_t *in_a = device.input(a), *in_b = device.input(b), *in_s = device.input(selectors);
  device.run([&](cudaStream_t stream) { test_prmt(to, in_a, in_b, in_s, int(count), stream); });
  std::vector<uint32_t> want(count);
  for (size_t i = 0; i < count; ++i)
    for (int place = 3; place >= 0; --place) {
      const uint32_t digit = selectors[i] >> (4 * place) & 15;
      const uint32_t byte = (digit % 8 < 4 ? a[i] : b[i]) >> (digit % 4 * 8) & 255;
      want[i] = want[i] << 8 | (digit < 8 ? byte : byte >= 128 ? 255 : 0);
    }
  REQUIRE(device.result(to) == want);
}

TEST_CASE("ptx: ldmatrix", "[ptx]") {
  for (const int count : {2, 4}) {
    for (const bool transposed : {false, true}) {
      CAPTURE(count, transposed);
      std::vector<Half> matrices(size_t(count) * 64);
      for (size_t i = 0; i < matrices.size(); ++i) matrices[i] = Half(1000 + i);
      DeviceCase device;
      const Half* input = device.input(matrices);
      uint32_t* registers = device.output<uint32_t>(size_t(32 * count));
      device.run(
          [&](cudaStream_t stream) { test_ldmatrix(registers, input, count, transposed, stream); });
      const auto result = device.result(registers);
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < count; ++i) {
          CAPTURE(lane, i);
          const auto element = [&](int row, int column) {
            return Half(1000 + i * 64 + (transposed ? column * 8 + row : row * 8 + column));
          };
          const int row = lane / 4, column = lane % 4 * 2;
          REQUIRE(result[size_t(lane * count + i)] ==
                  pair(element(row, column), element(row, column + 1)));
        }
      }
    }
  }
}

TEST_CASE("ptx: mma", "[ptx]") {
  // Whole numbers, all of whose sums are exact; one element of an operand after the other alone;
  // any numbers.
  const auto check = [](const std::vector<double>& a, const std::vector<double>& b,
                        const std::vector<double>& d) {
    // PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
    std::vector<uint32_t> ra(128), rb(64);
    std::vector<float> rd(128);
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane >> 2, in_group = lane % 4;
      uint16_t ha[8], hb[4];
      for (int i = 0; i < 8; ++i) {
        const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
        const int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
        ha[i] = half_bits(a[size_t(row * 16 + column)]);
      }
      for (int i = 0; i < 4; ++i) {
        const int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
        hb[i] = half_bits(b[size_t(row * 8 + group)]);
        const int d_row = i < 2 ? group : group + 8;
        rd[size_t(lane * 4 + i)] = float(d[size_t(d_row * 8 + in_group * 2 + (i & 1))]);
      }
      for (int i = 0; i < 4; ++i) ra[size_t(lane * 4 + i)] = pair(ha[2 * i], ha[2 * i + 1]);
      for (int i = 0; i < 2; ++i) rb[size_t(lane * 2 + i)] = pair(hb[2 * i], hb[2 * i + 1]);
    }
    DeviceCase device;
    float* sums = device.in_out(rd);
    const uint32_t *left = device.input(ra), *right = device.input(rb);
    device.run([&](cudaStream_t stream) { test_mma(sums, left, right, stream); });
    const auto result = device.result(sums);
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int m = (lane >> 2) + (i < 2 ? 0 : 8), n = lane % 4 * 2 + (i & 1);
        double want = d[size_t(m * 8 + n)], magnitude = std::abs(want);
        for (int k = 0; k < 16; ++k) {
          const double product = a[size_t(m * 16 + k)] * b[size_t(k * 8 + n)];
          want += product;
          magnitude += std::abs(product);
        }
        CAPTURE(lane, i, m, n, want);
        // Tensor cores align and cut off; 2^-20 allows for that. Whole numbers must be right.
        const double allowed = std::trunc(want) == want ? 0 : std::ldexp(magnitude, -20);
        REQUIRE(std::abs(result[size_t(lane * 4 + i)] - want) <= allowed);
      }
    }
  };
  std::vector<double> a(256), b(128), d(128);
  for (size_t i = 0; i < 256; ++i) a[i] = double(i) - 99;
  for (size_t i = 0; i < 128; ++i) b[i] = double(i * 37 % 128) - 63;
  for (size_t i = 0; i < 128; ++i) d[i] = double(i) * 1000;
  check(a, b, d);
  Random random;
  for (double& v : a) v = test::round_to_half(random.real(-1, 1));
  for (double& v : b) v = test::round_to_half(random.real(-300, 300));
  for (double& v : d) v = random.real(-100, 100);
  check(a, b, d);
}

TEST_CASE("ptx: mma keeps what is not a number", "[ptx]") {
  std::vector<uint32_t> a(128), b(64);
  std::vector<float> d(128, 1.0f);
  for (uint32_t& v : b) v = pair(half_bits(1), half_bits(1));
  a[4 * 5 + 1] = half_bits(NAN);       // lane 5: row 9, column 2
  a[4 * 8 + 2] = half_bits(INFINITY);  // lane 8: row 2, column 8
  DeviceCase device;
  float* sums = device.in_out(d);
  const uint32_t *left = device.input(a), *right = device.input(b);
  device.run([&](cudaStream_t stream) { test_mma(sums, left, right, stream); });
  const auto result = device.result(sums);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i < 2 ? 0 : 8);
      const float v = result[size_t(lane * 4 + i)];
      CAPTURE(lane, i, v);
      REQUIRE((row == 9 ? std::isnan(v) : row == 2 ? v == INFINITY : v == 1));
    }
  }
}

TEST_CASE("ptx: cp.async", "[ptx]") {
  std::vector<uint32_t> from(4 * 32 * 4);
  for (size_t i = 0; i < from.size(); ++i) from[i] = uint32_t(i * 7 + 1);
  DeviceCase device;
  const uint32_t* input = device.input(from);
  uint32_t* to = device.output<uint32_t>(from.size());
  device.run([&](cudaStream_t stream) { test_cp_async(to, input, stream); });
  const auto result = device.result(to);
  for (size_t i = 0; i < from.size(); ++i) REQUIRE(result[i] == from[i ^ 4]);
}

TEST_CASE("ptx: griddepcontrol", "[ptx]") {
  const unsigned count = 64 * 40, steps = 7;
  std::vector<unsigned> x(count), constants(count);
  for (unsigned i = 0; i < count; ++i) {
    x[i] = i;
    constants[i] = i % 10;
  }
  DeviceCase device;
  unsigned* values = device.in_out(x);
  const unsigned* input = device.input(constants);
  device.run(
      [&](cudaStream_t stream) { test_dependent(values, input, int(count), int(steps), stream); },
      2);
  const auto result = device.result(values);
  for (unsigned i = 0; i < count; ++i) {
    unsigned want = i;
    for (unsigned step = 0; step < 2 * steps; ++step) want = 3 * want + step % steps + i % 10;
    REQUIRE(result[i] == want);
  }
}

}  // namespace mnist::MNIST_TARGET
