#include "tools/lab/machine_code/runtime/work.h"

#include <algorithm>
#include <utility>

#include "tools/lab/machine_code/runtime/executor.h"
#include "tools/lab/machine_code/runtime/kernels.h"

namespace machine_code {

namespace {

// Whether each node is one of the origin's last, or followed by one of them.
bool joined(const Capture& capture) {
  std::vector<bool> reached(capture.nodes.size());
  for (const int node : capture.origin->last) reached[size_t(node)] = true;
  for (size_t i = capture.nodes.size(); i-- > 0;) {
    if (!reached[i]) return false;
    for (const int before : capture.nodes[i].after) reached[size_t(before)] = true;
  }
  return true;
}

}  // namespace

cudaError_t put(CUstream_st* stream, std::string what, Action action) {
  if (stream == nullptr || !stream->capture) return action();
  std::vector<Node>& nodes = stream->capture->nodes;
  nodes.push_back({std::move(what), std::move(action), std::move(stream->last)});
  stream->last = {int(nodes.size()) - 1};
  return cudaSuccess;
}

cudaError_t wait(CUstream_st* stream, const CUevent_st& event) {
  if (!event.capture) return cudaSuccess;  // it is past
  if (stream == nullptr || (stream->capture && stream->capture != event.capture))
    return cudaErrorStreamCaptureIsolation;
  stream->capture = event.capture;
  stream->capture->streams.insert(stream);
  for (const int node : event.nodes)
    if (std::find(stream->last.begin(), stream->last.end(), node) == stream->last.end())
      stream->last.push_back(node);
  return cudaSuccess;
}

cudaError_t begin_capture(CUstream_st* stream) {
  if (stream == nullptr || stream->capture) return cudaErrorStreamCaptureUnsupported;
  stream->capture = std::make_shared<Capture>(Capture{stream, {stream}, {}});
  stream->last.clear();
  return cudaSuccess;
}

cudaError_t end_capture(CUstream_st* stream, std::vector<Node>& nodes) {
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!capture || capture->origin != stream) return cudaErrorStreamCaptureUnmatched;
  const bool complete = joined(*capture);
  for (CUstream_st* part : capture->streams) {
    part->capture.reset();
    part->last.clear();
  }
  if (!complete) return cudaErrorStreamCaptureUnjoined;
  nodes = std::move(capture->nodes);
  return cudaSuccess;
}

void announce(const CUgraphExec_st& graph) {
  std::string nodes;
  for (const Node& node : graph.nodes) {
    std::string after;
    for (const int before : node.after)
      after += (after.empty() ? "" : ", ") + std::to_string(before);
    nodes += (nodes.empty() ? "" : ", ") + ("[" + node.what + ", [" + after + "]]");
  }
  ask("{\"graph\": " + std::to_string(graph.number) + ", \"nodes\": [" + nodes + "]}");
}

cudaError_t run(const CUgraphExec_st& graph) {
  everything_ended();
  ask("{\"begin\": " + std::to_string(graph.number) + "}");
  cudaError_t code = cudaSuccess;
  for (size_t i = 0; i < graph.nodes.size() && code == cudaSuccess; ++i)
    code = graph.nodes[i].action();
  ask("{\"end\": " + std::to_string(graph.number) + "}");
  everything_ended();
  return code;
}

}  // namespace machine_code
