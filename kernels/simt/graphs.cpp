// Graphs: what the captured streams enqueued, with its arguments as they were then.

#include "kernels/simt/runtime.h"

namespace simt {

using Nodes = std::shared_ptr<const std::vector<Work>>;

struct SimtGraph {
  Nodes nodes;
};
struct SimtGraphExec {
  Nodes nodes;
};

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const auto lock = lock_runtime();
  if (stream == nullptr || stream->queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  stream->queue->capture = std::make_shared<Capture>();
  stream->queue->origin = true;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const auto lock = lock_runtime();
  *graph = nullptr;
  if (stream == nullptr || !stream->queue->capture || !stream->queue->origin)
    return report(cudaErrorStreamCaptureUnmatched);
  const auto capture = stream->queue->capture;
  bool unjoined = false;
  for (const auto& weak : runtime().queues) {
    const auto queue = weak.lock();
    if (!queue || queue->capture != capture) continue;
    unjoined |= queue->unjoined;
    queue->capture.reset();
    queue->origin = queue->unjoined = false;
  }
  if (unjoined) return report(cudaErrorStreamCaptureUnjoined);
  *graph = new SimtGraph{std::make_shared<const std::vector<Work>>(std::move(capture->nodes))};
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  const auto lock = lock_runtime();
  if (graph == nullptr) return report(cudaErrorInvalidValue);
  *exec = new SimtGraphExec{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const auto lock = lock_runtime();
  if (exec == nullptr) return report(cudaErrorInvalidResourceHandle);
  const auto queue = queue_of(stream);
  if (queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  enqueue(*queue, [nodes = exec->nodes] {
    for (const Work& node : *nodes) node();
  });
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const auto lock = lock_runtime();
  if (graph == nullptr || nodes != nullptr) return report(cudaErrorInvalidValue);
  *count = graph->nodes->size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

}  // namespace simt
