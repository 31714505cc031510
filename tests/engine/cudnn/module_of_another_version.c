/* A module whose version no program has. */
#include <stdint.h>

const uint64_t cuda_mnist_cudnn_module[3] = {12345, 0, 0};
