#include "host/engine/backends/cudnn/gemm.h"

namespace mnist::MNIST_TARGET::cudnn {
namespace {

// NVIDIA's advice for Hopper; more than any algorithm for these sizes asks for.
constexpr uint64_t kWorkspaceLimit = uint64_t{32} << 20;
// Tensors begin at multiples of 16 bytes in the arenas, and at larger ones in copies.
constexpr uint32_t kAlignment = 16;

template <typename T>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof(value)));
}

template <typename T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)));
}

int32_t operation(const Operand& operand) {
  return operand.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
}

Owned<cublasLtMatmulDesc_t> make_product(const Operand& a, const Operand& b,
                                         cublasLtEpilogue_t epilogue) {
  cublasLtMatmulDesc_t product = nullptr;
  CUBLAS_CHECK(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Owned<cublasLtMatmulDesc_t> owner(product);
  set(product, CUBLASLT_MATMUL_DESC_TRANSA, operation(a));
  set(product, CUBLASLT_MATMUL_DESC_TRANSB, operation(b));
  set(product, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(epilogue));
  // Not an address, but an alignment: the heuristic takes it for that of run()'s vectors.
  set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, uintptr_t{kAlignment});
  return owner;
}

Owned<cublasLtMatmulPreference_t> make_preference() {
  cublasLtMatmulPreference_t preference = nullptr;
  CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
  Owned<cublasLtMatmulPreference_t> owner(preference);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceLimit);
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(preference, attribute, kAlignment);
  return owner;
}

}  // namespace

Gemm::Gemm(const Context& context, const Operand& a, const Operand& b, Precision precision,
           cublasLtEpilogue_t epilogue)
    : product_(make_product(a, b, epilogue)),
      a_(make_matrix(a.rows, a.columns, precision)),
      b_(make_matrix(b.rows, b.columns, precision)) {
  const int m = a.transposed ? a.columns : a.rows;
  const int n = b.transposed ? b.rows : b.columns;
  d_ = make_matrix(m, n);

  const Owned<cublasLtMatmulPreference_t> preference = make_preference();
  cublasLtMatmulHeuristicResult_t result = {};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(context.cublas(), product_.get(), a_.get(), b_.get(), d_.get(),
                                     d_.get(), preference.get(), 1, &result, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return;
  cublas_check(status, "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__);
  if (found == 0 || result.state != CUBLAS_STATUS_SUCCESS) return;
  algorithm_ = result.algo;
  workspace_ = DeviceBuffer<unsigned char>(result.workspaceSize);
  supported_ = true;
}

void Gemm::run(const Context& context, float alpha, float* d, const void* a, const void* b,
               const float* vector, cudaStream_t stream) const {
  if (!supported_)
    cublas_check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__);
  if (vector != nullptr) set(product_.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
  CUBLAS_CHECK(cublasLtMatmul(context.cublas(), product_.get(), &alpha, a, a_.get(), b, b_.get(),
                              &kZero, d, d_.get(), d, d_.get(), &algorithm_, workspace_.data(),
                              workspace_.bytes(), stream));
}

Transposition::Transposition(int rows, int columns)
    : in_(make_matrix(columns, rows)), out_(make_matrix(rows, columns)) {
  cublasLtMatrixTransformDesc_t transform = nullptr;
  CUBLAS_CHECK(cublasLtMatrixTransformDescCreate(&transform, CUDA_R_32F));
  transform_.reset(transform);
  const int32_t transpose = CUBLAS_OP_T;
  CUBLAS_CHECK(cublasLtMatrixTransformDescSetAttribute(
      transform, CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA, &transpose, sizeof(transpose)));
}

void Transposition::run(const Context& context, float* out, const float* in,
                        cudaStream_t stream) const {
  CUBLAS_CHECK(cublasLtMatrixTransform(context.cublas(), transform_.get(), &kOne, in, in_.get(),
                                       &kZero, nullptr, nullptr, out, out_.get(), stream));
}

}  // namespace mnist::MNIST_TARGET::cudnn
