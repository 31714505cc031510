// The descriptors, against the real libraries: these answer without a GPU. What cuDNN derives from
// a descriptor must be what the layer's shape says.
#include "tests/support/catch.h"
#undef CHECK  // kernels/check.h has its own

#include "host/engine/backends/cudnn/gemm.h"
#include "host/engine/backends/cudnn/library_tensor.h"
#include "tests/support/cases.h"

namespace mnist::MNIST_TARGET {

using namespace cudnn;
namespace {

struct Extents4 {
  int n, h, w, c;
  bool operator==(const Extents4&) const = default;
};

TEST_CASE("cuDNN takes the descriptors of convolutions", "[cudnn]") {
  const Precision precision = GENERATE(Precision::kFloat, Precision::kHalf);
  std::vector<ConvShape> shapes = edge_conv_shapes();
  for (const ConvShape& shape : model_conv_shapes(128)) shapes.push_back(shape);
  for (const ConvShape& s : shapes) {
    INFO(to_string(s));
    const WindowAxis rows{s.h, s.r, s.stride_h, s.pad_h, s.p};
    const WindowAxis columns{s.w, s.s, s.stride_w, s.pad_w, s.q};
    const bool half = precision == Precision::kHalf;
    const Tensor x = make_tensor(s.n, rows.library_size(), columns.library_size(), s.c, precision);
    const Tensor y = make_tensor(s.n, s.p, s.q, s.k, precision);
    const Filter w = make_filter(s.k, s.r, s.s, s.c, precision);
    const cudnnMathType_t wanted = half ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH;
    const ConvolutionMode mode = make_convolution_mode(rows.library_pad(), columns.library_pad(),
                                                       s.stride_h, s.stride_w, wanted);

    Extents4 out{};
    CUDNN_CHECK(cudnnGetConvolution2dForwardOutputDim(mode.get(), x.get(), w.get(), &out.n, &out.c,
                                                      &out.h, &out.w));
    REQUIRE(out == Extents4{s.n, s.p, s.q, s.k});
    cudnnMathType_t math{};
    CUDNN_CHECK(cudnnGetConvolutionMathType(mode.get(), &math));
    REQUIRE(math == wanted);
    size_t bytes = 0;
    CUDNN_CHECK(cudnnGetFilterSizeInBytes(w.get(), &bytes));
    REQUIRE(bytes == s.filter_size() * (half ? 2 : 4));
    CUDNN_CHECK(cudnnGetTensorSizeInBytes(y.get(), &bytes));
    REQUIRE(bytes == s.output_size() * (half ? 2 : 4));

    cudnnDataType_t type{};
    Extents4 extents{}, strides{};
    CUDNN_CHECK(cudnnGetTensor4dDescriptor(y.get(), &type, &extents.n, &extents.c, &extents.h,
                                           &extents.w, &strides.n, &strides.c, &strides.h,
                                           &strides.w));
    REQUIRE(type == (half ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT));
    REQUIRE(extents == Extents4{s.n, s.p, s.q, s.k});
    REQUIRE(strides == Extents4{s.p * s.q * s.k, s.q * s.k, s.k, 1});
  }
}

TEST_CASE("cuDNN takes the descriptors of pooling", "[cudnn]") {
  std::vector<PoolShape> shapes = edge_pool_shapes();
  for (const PoolShape& shape : model_pool_shapes(128)) shapes.push_back(shape);
  for (const PoolShape& s : shapes) {
    INFO(to_string(s));
    const WindowAxis rows{s.h, s.window_h, s.stride_h, s.pad_h, s.p};
    const WindowAxis columns{s.w, s.window_w, s.stride_w, s.pad_w, s.q};
    const Tensor x = make_tensor(s.n, rows.library_size(), columns.library_size(), s.c);
    const Tensor part =
        make_part(s.n, s.h, s.w, s.c, rows.library_size() + s.h, columns.library_size() + s.w);
    const PoolingMode mode = make_pooling_mode(s.window_h, s.window_w, rows.library_pad(),
                                               columns.library_pad(), s.stride_h, s.stride_w);
    Extents4 out{};
    CUDNN_CHECK(
        cudnnGetPooling2dForwardOutputDim(mode.get(), x.get(), &out.n, &out.c, &out.h, &out.w));
    REQUIRE(out == Extents4{s.n, s.p, s.q, s.c});
  }
}

TEST_CASE("the other descriptors are taken too", "[cudnn]") {
  REQUIRE(make_relu() != nullptr);
  for (const Precision precision : {Precision::kFloat, Precision::kHalf}) {
    const auto matrix = make_matrix(3, 5, precision);
    uint32_t type = 0;
    CUBLAS_CHECK(cublasLtMatrixLayoutGetAttribute(matrix.get(), CUBLASLT_MATRIX_LAYOUT_TYPE, &type,
                                                  sizeof type, nullptr));
    REQUIRE(type == uint32_t(precision == Precision::kHalf ? CUDA_R_16F : CUDA_R_32F));
    cudnnDataType_t part_type{};
    Extents4 extents{}, strides{};
    CUDNN_CHECK(cudnnGetTensor4dDescriptor(make_part(2, 3, 4, 5, 6, 7, precision).get(), &part_type,
                                           &extents.n, &extents.c, &extents.h, &extents.w,
                                           &strides.n, &strides.c, &strides.h, &strides.w));
    REQUIRE(part_type == tensor_type(precision));
    REQUIRE(extents == Extents4{2, 3, 4, 5});
    REQUIRE(strides == Extents4{6 * 7 * 5, 7 * 5, 5, 1});
  }
  REQUIRE_NOTHROW(Transposition(3, 5));
}

// With a GPU this would go through.
TEST_CASE("what fails names call, status and reason", "[cudnn]") {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return;
  try {
    make_cudnn();
    FAIL("cuDNN starts without a device");
  } catch (const CudnnError& error) {
    const std::string what = error.what();
    INFO(what);
    REQUIRE(what.find("cudnnCreate") != std::string::npos);
    REQUIRE(what.find("CUDNN_STATUS_") != std::string::npos);
  }
  REQUIRE_THROWS_AS(make_cublas(), CublasError);
}

}  // namespace
}  // namespace mnist::MNIST_TARGET
