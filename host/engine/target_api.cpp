#include "host/engine/target_api.h"

#include "host/engine/backends/backends.h"
#include "host/engine/bench/kernel_bench.h"
#include "host/engine/check/check_backends.h"
#include "host/engine/device/device.h"
#include "host/engine/target_engine.h"

namespace mnist::MNIST_TARGET {

const TargetApi kTargetApi{
    .unusable_reason = unusable_reason,
    .device_info = device_info,
    .devices = devices,
    .select_device = select_device,
    .math_unusable_reason = math_unusable_reason,
    .make_engine = make_engine,
    .make_kernel_bench = make_kernel_bench,
    .make_comparison_bench = make_comparison_bench,
    .cudnn_versions = cudnn_versions,
    .check_backends = check_backends,
};

}  // namespace mnist::MNIST_TARGET
