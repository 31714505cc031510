// Graphs: what the captured streams enqueued, with its arguments as they were then.

#include <algorithm>

#include "kernels/simt/runtime.h"
#include "kernels/simt/scheduler.h"

namespace simt {

using Nodes = std::shared_ptr<const std::vector<Node>>;

struct SimtGraph {
  Nodes nodes;
};
struct SimtGraphExec {
  Nodes nodes;
};

namespace {

// The order of capture respects every dependence. In the other orders, of the nodes that nothing
// holds back the last one runs next, or any: an edge that is missing shows.
void replay(const std::vector<Node>& nodes) {
  if (schedule().order == ThreadOrder::kAscending) {
    for (const Node& node : nodes) node.work();
    return;
  }
  std::vector<bool> done(nodes.size());
  std::vector<size_t> ready;
  for (size_t left = nodes.size(); left > 0; --left) {
    ready.clear();
    for (size_t i = 0; i < nodes.size(); ++i)
      if (!done[i] && std::ranges::all_of(nodes[i].after, [&](size_t j) { return done[j]; }))
        ready.push_back(i);
    const bool shuffled = schedule().order == ThreadOrder::kShuffled;
    const size_t next = shuffled ? ready[random_below(ready.size())] : ready.back();
    nodes[next].work();
    done[next] = true;
  }
}

}  // namespace

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const auto lock = lock_runtime();
  if (stream == nullptr || stream->queue->capture) return report(cudaErrorStreamCaptureUnsupported);
  stream->queue->capture = std::make_shared<Capture>();
  stream->queue->origin = true;
  stream->queue->last.clear();
  stream->queue->changed.reset();
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
    queue->last.clear();
    queue->changed.reset();
    queue->origin = queue->unjoined = false;
  }
  if (unjoined) return report(cudaErrorStreamCaptureUnjoined);
  *graph = new SimtGraph{std::make_shared<const std::vector<Node>>(std::move(capture->nodes))};
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
  runtime().nodes_launched += int64_t(exec->nodes->size());
  enqueue(*queue, [nodes = exec->nodes] { replay(*nodes); });
  return cudaSuccess;
}

int64_t graph_nodes_launched() {
  const auto lock = lock_runtime();
  return runtime().nodes_launched;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const auto lock = lock_runtime();
  if (graph == nullptr || nodes != nullptr) return report(cudaErrorInvalidValue);
  *count = graph->nodes->size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const auto lock = lock_runtime();
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const auto lock = lock_runtime();
  delete exec;
  return cudaSuccess;
}

}  // namespace simt
