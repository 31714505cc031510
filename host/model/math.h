// The arithmetic of a run.
#pragma once

namespace mnist {

// kFp16: convolutions and products of operands rounded to FP16; their sums, and all else, in
// float32.
enum class Math { kFp32, kFp16 };

constexpr const char* name_of(Math math) {
  return math == Math::kFp16 ? "fp16" : "fp32";
}

}  // namespace mnist
