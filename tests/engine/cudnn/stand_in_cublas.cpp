// The stand-in's cuBLASLt: products of column-major matrices of float32 or FP16 with float32
// results, and transpositions of float32.
#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "tests/engine/cudnn/stand_in_core.h"

struct cublasLtContext {
  static constexpr const char* kKind = "cublasLt handle";
};

namespace mnist::stand_in {
namespace {

struct Layout {
  static constexpr const char* kKind = "matrix layout";
  cudaDataType type;
  size_t rows, columns, ld;

  Element element() const { return type == CUDA_R_16F ? Element::kHalf : Element::kFloat; }

  // Places of op(this), row by row.
  std::vector<size_t> indices(bool transposed) const {
    std::vector<size_t> all;
    all.reserve(rows * columns);
    const size_t height = transposed ? columns : rows, width = transposed ? rows : columns;
    for (size_t i = 0; i < height; ++i)
      for (size_t j = 0; j < width; ++j) all.push_back(transposed ? j + i * ld : i + j * ld);
    return all;
  }
};

struct Product {
  static constexpr const char* kKind = "matmul descriptor";
  cublasComputeType_t compute;
  cudaDataType_t scale;
  int32_t transa = CUBLAS_OP_N, transb = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  float* vector = nullptr;
};

struct Preference {
  static constexpr const char* kKind = "matmul preference";
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

struct Transform {
  static constexpr const char* kKind = "matrix transform descriptor";
  cudaDataType scale;
  int32_t transa = CUBLAS_OP_N, transb = CUBLAS_OP_N;
};

// Everything that an algorithm was found for; it lies in cublasLtMatmulAlgo_t.
struct Problem {
  uint32_t m, n, k, lda, ldb, ldd;
  uint32_t epilogue, operations, compute, operands;
  uint32_t alignment[4];
  uint32_t vector_alignment;  // 0: the epilogue has none
  bool operator==(const Problem&) const = default;
  // Every third problem needs no workspace.
  size_t workspace() const { return (m + n + k) % 3 == 0 ? 0 : 64 * (size_t(m) + n) + 16 * k; }
};
static_assert(sizeof(Problem) <= sizeof(cublasLtMatmulAlgo_t));

// A product's operands, if they agree.
struct Operands {
  const Product* product;
  const Layout *a, *b, *d;
  Problem problem;
};

bool read_operands(Call& call, Operands& o, cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                   cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                   cublasLtMatrixLayout_t d) {
  call.get<cublasLtContext>(handle);
  o.product = call.get<Product>(product);
  o.a = call.get<Layout>(a);
  o.b = call.get<Layout>(b);
  o.d = call.get<Layout>(d);
  call.require(c == d, "the layouts of C and D differ");
  if (!call.sound()) return false;
  for (const Layout* layout : {o.a, o.b, o.d})
    call.require(layout->ld >= layout->rows && layout->rows > 0 && layout->columns > 0,
                 "a layout whose ld is below its rows");
  // The table of cublasLtMatmul()'s reference for this compute and scale type, as far as needed.
  call.require(o.a->type == o.b->type && (o.a->type == CUDA_R_32F || o.a->type == CUDA_R_16F) &&
                   o.d->type == CUDA_R_32F,
               "a mixture of data types other than float32 or halves to float32");
  call.require(o.product->scale == CUDA_R_32F, "the scale type is not float32");
  call.require(o.product->compute == CUBLAS_COMPUTE_32F, "wrong compute type");
  const bool ta = o.product->transa == CUBLAS_OP_T, tb = o.product->transb == CUBLAS_OP_T;
  const size_t m = ta ? o.a->columns : o.a->rows, k = ta ? o.a->rows : o.a->columns;
  const size_t n = tb ? o.b->rows : o.b->columns, k_of_b = tb ? o.b->columns : o.b->rows;
  call.require(k == k_of_b && o.d->rows == m && o.d->columns == n,
               "the shapes do not agree: " + std::to_string(m) + "x" + std::to_string(k) + " by " +
                   std::to_string(k_of_b) + "x" + std::to_string(n) + " to " +
                   std::to_string(o.d->rows) + "x" + std::to_string(o.d->columns));
  o.problem = {uint32_t(m),
               uint32_t(n),
               uint32_t(k),
               uint32_t(o.a->ld),
               uint32_t(o.b->ld),
               uint32_t(o.d->ld),
               o.product->epilogue,
               uint32_t(ta * 2 + tb),
               uint32_t(o.product->compute),
               uint32_t(o.a->type),
               {},
               0};
  return call.sound();
}

// Whether an epilogue reads a bias or writes the gradient of one.
bool has_vector(uint32_t epilogue) {
  return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS ||
         epilogue == CUBLASLT_EPILOGUE_BGRADA || epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

template <typename T>
bool assign(T& to, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof(T)) return false;
  std::memcpy(&to, from, bytes);
  return true;
}

cublasStatus_t answer(const Call& call) {
  return call.sound() ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

std::vector<size_t> first(size_t count) {
  std::vector<size_t> indices(count);
  for (size_t i = 0; i < count; ++i) indices[i] = i;
  return indices;
}

template <typename Opaque>
Opaque* disguise(void* object) {
  return static_cast<Opaque*>(object);
}

}  // namespace
}  // namespace mnist::stand_in

using namespace mnist;
using namespace mnist::stand_in;

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  Call call("cublasLtCreate", Call::Kind::kNotWhileCapturing);
  if (call.fails()) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = create<cublasLtContext>();
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return destroy<cublasLtContext>("cublasLtDestroy", handle) ? CUBLAS_STATUS_SUCCESS
                                                             : CUBLAS_STATUS_INVALID_VALUE;
}

size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                               : "CUBLAS_STATUS_of_the_stand_in";
}

const char* cublasLtGetStatusString(cublasStatus_t) {
  return last_fault();
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
  Call call("cublasLtMatrixLayoutCreate");
  if (call.fails()) return CUBLAS_STATUS_ALLOC_FAILED;
  Layout* object = create<Layout>();
  *object = {type, rows, columns, size_t(ld)};
  *layout = disguise<cublasLtMatrixLayoutOpaque_t>(object);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return destroy<Layout>("cublasLtMatrixLayoutDestroy", layout) ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  Call call("cublasLtMatmulDescCreate");
  if (call.fails()) return CUBLAS_STATUS_ALLOC_FAILED;
  Product* object = create<Product>();
  object->compute = compute;
  object->scale = scale;
  *product = disguise<cublasLtMatmulDescOpaque_t>(object);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
  return destroy<Product>("cublasLtMatmulDescDestroy", product) ? CUBLAS_STATUS_SUCCESS
                                                                : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  Call call("cublasLtMatmulDescSetAttribute");
  if (call.fails()) return CUBLAS_STATUS_INVALID_VALUE;
  Product* p = call.get<Product>(product);
  if (p == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  bool taken = false;
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA) taken = assign(p->transa, value, bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSB) taken = assign(p->transb, value, bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_EPILOGUE) taken = assign(p->epilogue, value, bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER) taken = assign(p->vector, value, bytes);
  call.require(taken, "an unknown attribute, or a value of the wrong size");
  return answer(call);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  Call call("cublasLtMatmulPreferenceCreate");
  if (call.fails()) return CUBLAS_STATUS_ALLOC_FAILED;
  *preference = disguise<cublasLtMatmulPreferenceOpaque_t>(create<Preference>());
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy<Preference>("cublasLtMatmulPreferenceDestroy", preference)
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  Call call("cublasLtMatmulPreferenceSetAttribute");
  if (call.fails()) return CUBLAS_STATUS_INVALID_VALUE;
  Preference* p = call.get<Preference>(preference);
  if (p == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const int operand = int(attribute) - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  bool taken = false;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    taken = assign(p->workspace, value, bytes);
  if (operand >= 0 && operand < 4) taken = assign(p->alignment[operand], value, bytes);
  call.require(taken, "an unknown attribute, or a value of the wrong size");
  return answer(call);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
  Call call("cublasLtMatmulAlgoGetHeuristic", Call::Kind::kNotWhileCapturing);
  if (call.fails()) return CUBLAS_STATUS_INVALID_VALUE;
  Operands o{};
  const Preference* p = call.get<Preference>(preference);
  if (!read_operands(call, o, handle, product, a, b, c, d) || p == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  *found = 0;
  if (o.product->epilogue == CUBLASLT_EPILOGUE_BGRADA && state().refuse_bias_gradient)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  std::copy_n(p->alignment, 4, o.problem.alignment);
  if (has_vector(o.problem.epilogue)) {
    const auto address = reinterpret_cast<uintptr_t>(o.product->vector);
    if (!call.require(address != 0, "a bias of unknown alignment"))
      return CUBLAS_STATUS_INVALID_VALUE;
    o.problem.vector_alignment = uint32_t(address & -address);
  }
  if (requested < 1 || o.problem.workspace() > p->workspace) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  std::memcpy(&results[0].algo, &o.problem, sizeof(o.problem));
  results[0].workspaceSize = o.problem.workspace();
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  Call call("cublasLtMatmul");
  if (call.fails()) return CUBLAS_STATUS_EXECUTION_FAILED;
  Operands o{};
  if (!read_operands(call, o, handle, product, a_layout, b_layout, c_layout, d_layout))
    return CUBLAS_STATUS_INVALID_VALUE;
  Problem chosen{};
  std::memcpy(&chosen, algorithm, sizeof(chosen));
  std::copy_n(chosen.alignment, 4, o.problem.alignment);
  o.problem.vector_alignment = chosen.vector_alignment;
  call.require(chosen == o.problem, "the algorithm was found for another product");
  call.require(workspace_bytes >= o.problem.workspace(), "the workspace is too small");
  const void* pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    call.require(reinterpret_cast<uintptr_t>(pointers[i]) % chosen.alignment[i] == 0,
                 "an operand is less aligned than promised");
  if (has_vector(o.problem.epilogue))
    call.require(reinterpret_cast<uintptr_t>(o.product->vector) % chosen.vector_alignment == 0,
                 "the bias is less aligned than promised");
  call.require(c == d, "C is not D");

  const bool ta = o.product->transa == CUBLAS_OP_T, tb = o.product->transb == CUBLAS_OP_T;
  const uint32_t epilogue = o.product->epilogue;
  const bool relu = epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  const bool bias = epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  const bool gradient_a = epilogue == CUBLASLT_EPILOGUE_BGRADA;
  const bool gradient_b = epilogue == CUBLASLT_EPILOGUE_BGRADB;
  call.require(relu || bias || gradient_a || gradient_b || epilogue == CUBLASLT_EPILOGUE_DEFAULT,
               "an unknown epilogue");
  const Element operands = o.a->element();
  call.require(operands == Element::kFloat || !(gradient_a || gradient_b),
               "a scaled sum of halves, of which the reference says nothing");
  const double by = double(*static_cast<const float*>(alpha));
  const double keep = double(*static_cast<const float*>(beta));
  const size_t m = o.problem.m, n = o.problem.n, k = o.problem.k;

  // x [n,k] = op(B)^T, w [k,m] = op(A)^T, y [n,m] = D^T: a dense layer.
  const std::vector<size_t> at_w = o.a->indices(!ta), at_x = o.b->indices(!tb);
  const std::vector<size_t> at_y = o.d->indices(true);
  call.reads("A", a, at_w, operands);
  call.reads("B", b, at_x, operands);
  if (keep != 0) call.reads("C", c, at_y);
  if (bias) call.reads("bias", o.product->vector, first(m));
  call.writes("D", d, at_y);
  if (gradient_a || gradient_b)
    call.writes("bias gradient", o.product->vector, first(gradient_a ? m : n));
  call.scratch(workspace, workspace_bytes);
  call.launch(stream, nullptr, keep != 0);
  if (!call.sound()) return CUBLAS_STATUS_INVALID_VALUE;

  const reference::Tensor w = gather(a, at_w, operands), x = gather(b, at_x, operands);
  const DenseShape shape{int(n), int(k), int(m)};
  reference::Tensor y = reference::dense_forward(x, w, {}, shape).value;
  if (bias || relu) {
    const reference::Tensor shift =
        bias ? gather(o.product->vector, first(m)) : reference::Tensor(m, 0.0);
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] = by * y[i] + shift[i % m];
      if (relu && y[i] < 0) y[i] = 0;
    }
    call.require(keep == 0, "an epilogue with beta is more than the stand-in can do");
    blend(d, at_y, y, 1, 0);
    return answer(call);
  }
  blend(d, at_y, y, by, keep);
  if (gradient_a) {  // sums of op(A) over k: w's columns
    blend(o.product->vector, first(m), reference::bias_backward(w, int64_t(k), int(m)).value, 1, 0);
  } else if (gradient_b) {  // sums of op(B) over k: x's rows
    reference::Tensor sums(n, 0.0);
    for (size_t i = 0; i < x.size(); ++i) sums[i / k] += x[i];
    blend(o.product->vector, first(n), sums, 1, 0);
  }
  return answer(call);
}

cublasStatus_t cublasLtMatrixTransformDescCreate(cublasLtMatrixTransformDesc_t* transform,
                                                 cudaDataType scale) {
  Call call("cublasLtMatrixTransformDescCreate");
  if (call.fails()) return CUBLAS_STATUS_ALLOC_FAILED;
  Transform* object = create<Transform>();
  object->scale = scale;
  *transform = disguise<cublasLtMatrixTransformDescOpaque_t>(object);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixTransformDescDestroy(cublasLtMatrixTransformDesc_t transform) {
  return destroy<Transform>("cublasLtMatrixTransformDescDestroy", transform)
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixTransformDescSetAttribute(
    cublasLtMatrixTransformDesc_t transform, cublasLtMatrixTransformDescAttributes_t attribute,
    const void* value, size_t bytes) {
  Call call("cublasLtMatrixTransformDescSetAttribute");
  if (call.fails()) return CUBLAS_STATUS_INVALID_VALUE;
  Transform* t = call.get<Transform>(transform);
  if (t == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  bool taken = false;
  if (attribute == CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSA) taken = assign(t->transa, value, bytes);
  if (attribute == CUBLASLT_MATRIX_TRANSFORM_DESC_TRANSB) taken = assign(t->transb, value, bytes);
  call.require(taken, "an unknown attribute, or a value of the wrong size");
  return answer(call);
}

cublasStatus_t cublasLtMatrixTransform(cublasLtHandle_t handle,
                                       cublasLtMatrixTransformDesc_t transform, const void* alpha,
                                       const void* a, cublasLtMatrixLayout_t a_layout,
                                       const void* beta, const void* b,
                                       cublasLtMatrixLayout_t b_layout, void* c,
                                       cublasLtMatrixLayout_t c_layout, cudaStream_t stream) {
  Call call("cublasLtMatrixTransform");
  if (call.fails()) return CUBLAS_STATUS_EXECUTION_FAILED;
  call.get<cublasLtContext>(handle);
  const Transform* t = call.get<Transform>(transform);
  const Layout* from = call.get<Layout>(a_layout);
  const Layout* to = call.get<Layout>(c_layout);
  call.require(b == nullptr && b_layout == nullptr && *static_cast<const float*>(beta) == 0,
               "a second addend is more than the stand-in can do");
  if (!call.sound()) return CUBLAS_STATUS_INVALID_VALUE;
  const bool transposed = t->transa == CUBLAS_OP_T;
  call.require((transposed ? from->columns : from->rows) == to->rows &&
                   (transposed ? from->rows : from->columns) == to->columns,
               "the shapes do not agree");
  call.require(from->type == CUDA_R_32F && to->type == CUDA_R_32F && t->scale == CUDA_R_32F,
               "not float32");
  const std::vector<size_t> at_a = from->indices(transposed), at_c = to->indices(false);
  call.reads("A", a, at_a);
  call.writes("C", c, at_c);
  call.launch(stream, nullptr);
  if (call.sound()) blend(c, at_c, gather(a, at_a), double(*static_cast<const float*>(alpha)), 0);
  return answer(call);
}

}  // extern "C"
