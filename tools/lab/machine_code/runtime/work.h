// Streams, events and graphs. What is put into a stream is done at once, before the call returns:
// one of the orders that CUDA allows. While a stream is being captured nothing is done; its work
// becomes nodes of a graph, with the edges that streams and events imply.
#pragma once

#include <driver_types.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace machine_code {

using Action = std::function<cudaError_t()>;

struct Node {
  std::string what;  // as JSON: {"kernel": ...}, {"copy": bytes}, ...
  Action action;
  std::vector<int> after;  // numbers of the nodes that it follows directly
};

struct Capture {
  CUstream_st* origin;
  std::set<CUstream_st*> streams;  // that take part, the origin among them
  std::vector<Node> nodes;
};

// Does it, or adds it to the graph that the stream is recording.
cudaError_t put(CUstream_st* stream, std::string what, Action action);

// What the stream gets next follows what was in another stream when the event was recorded there.
cudaError_t wait(CUstream_st* stream, const CUevent_st& event);

cudaError_t begin_capture(CUstream_st* stream);
cudaError_t end_capture(CUstream_st* stream, std::vector<Node>& nodes);

// Tells the executor of a graph; does its nodes in order.
void announce(const CUgraphExec_st& graph);
cudaError_t run(const CUgraphExec_st& graph);

}  // namespace machine_code

struct CUstream_st {
  std::shared_ptr<machine_code::Capture> capture;  // null: none
  std::vector<int> last;  // while capturing: the nodes that the next one follows
};

struct CUevent_st {
  std::shared_ptr<machine_code::Capture> capture;  // in which it was recorded; null: none
  std::vector<int> nodes;
  double seconds = 0;
};

struct CUgraph_st {
  std::vector<machine_code::Node> nodes;  // each after those that it follows
};

struct CUgraphExec_st {
  int number;
  std::vector<machine_code::Node> nodes;
};
