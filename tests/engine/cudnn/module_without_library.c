/* A module that needs a function which no library has. */
int cudnn_of_no_library(void);

int cuda_mnist_cudnn_module(void) {
  return cudnn_of_no_library();
}
