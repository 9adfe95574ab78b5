// The CUDA runtime: streams, events, stream capture, and graphs.
#include <utility>

#include "card.h"

using namespace card;

// ---- streams -------------------------------------------------------------------------------------------------------

API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned, int priority) {
  *handle = (cudaStream_t) new Stream{priority};
  return cudaSuccess;
}

API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
  return cudaStreamCreateWithPriority(handle, flags, 0);
}

API cudaError_t cudaStreamCreate(cudaStream_t* handle) {
  return cudaStreamCreateWithPriority(handle, 0, 0);
}

API cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  *priority = stream(handle)->priority;
  return cudaSuccess;
}

API cudaError_t cudaStreamQuery(cudaStream_t handle) {
  Lock lock(mutex);
  Capture* capture = stream(handle)->capture;
  return capture ? forbid("cudaStreamQuery of a captured stream", capture) : cudaSuccess;
}

API cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Lock lock(mutex);
  Capture* own = stream(handle)->capture;
  if (own)
    return forbid("cudaStreamSynchronize of a captured stream", own);
  if (stream(handle) != &legacy)
    return cudaSuccess;
  for (auto& [id, capture] : captures)
    if (capture->mode == cudaStreamCaptureModeGlobal)
      return forbid("cudaStreamSynchronize of the legacy stream", capture);
  return cudaSuccess;
}

API cudaError_t cudaStreamAddCallback(cudaStream_t handle, cudaStreamCallback_t function, void* data, unsigned) {
  function(handle, cudaSuccess, data);
  return cudaSuccess;
}

API cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  if (stream(handle)->capture)
    return work(stream(handle), "host function");
  function(data);
  return cudaSuccess;
}

DOES_NOTHING(cudaStreamDestroy)

// ---- events --------------------------------------------------------------------------------------------------------

API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned) {
  *handle = (cudaEvent_t) new Event;
  return cudaSuccess;
}

API cudaError_t cudaEventCreate(cudaEvent_t* handle) {
  return cudaEventCreateWithFlags(handle, 0);
}

API cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  delete (Event*)handle;
  return cudaSuccess;
}

API cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t where) {
  Lock lock(mutex);
  *(Event*)handle = {stream(where)->capture, stream(where), stream(where)->works};
  return cudaSuccess;
}

API cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t where, unsigned) {
  return cudaEventRecord(handle, where);
}

static Capture* under_way(cudaEvent_t handle) {
  Capture* capture = ((Event*)handle)->capture;
  for (auto& [id, each] : captures)
    if (each == capture)
      return capture;
  return nullptr;
}

API cudaError_t cudaEventQuery(cudaEvent_t handle) {
  Lock lock(mutex);
  if (Capture* capture = under_way(handle))
    return forbid("cudaEventQuery of a captured event", capture);
  return unsafe("cudaEventQuery");
}

API cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  Lock lock(mutex);
  Capture* capture = under_way(handle);
  return capture ? forbid("cudaEventSynchronize of a captured event", capture) : cudaSuccess;
}

API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}

// A stream that waits for a captured event joins its capture, and its work must be waited for before that ends; a
// captured stream may wait for no event from outside.
API cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  Lock lock(mutex);
  Stream* where = stream(handle);
  Capture* theirs = under_way(event);
  if (where->capture && !theirs) {
    forbid("a wait for an event from outside of the capture", where->capture);
    return failed(cudaErrorStreamCaptureIsolation);
  }
  if (!theirs)
    return cudaSuccess;
  where->capture = theirs;
  if (where != theirs->origin)
    theirs->others.insert(where);
  Event* known = (Event*)event;
  bool is_last = known->works == known->where->works;
  if (is_last && theirs->parted.erase(known->where) && where != theirs->origin)
    theirs->parted.insert(where);
  return cudaSuccess;
}

// ---- stream capture ------------------------------------------------------------------------------------------------

static cudaStreamCaptureStatus status(const Capture* capture) {
  if (!capture)
    return cudaStreamCaptureStatusNone;
  return capture->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

API cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* is) {
  Lock lock(mutex);
  *is = status(stream(handle)->capture);
  return cudaSuccess;
}

API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* is, unsigned long long* id,
                                         cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                         const cudaGraphEdgeData** edges, size_t* count) {
  Lock lock(mutex);
  Capture* capture = stream(handle)->capture;
  *is = status(capture);
  if (capture && id)
    *id = capture->id;
  if (capture && graph)
    *graph = (cudaGraph_t)capture->graph;
  if (dependencies)
    *dependencies = nullptr;
  if (edges)
    *edges = nullptr;
  if (count)
    *count = 0;
  return cudaSuccess;
}

API cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Lock lock(mutex);
  static unsigned long long next = 1;
  Stream* where = stream(handle);
  if (where == &legacy)
    return failed(cudaErrorStreamCaptureUnsupported);
  if (where->capture)
    return failed(cudaErrorIllegalState);
  where->capture = new Capture{next++, mode, std::this_thread::get_id(), new Graph, where};
  captures[where->capture->id] = where->capture;
  return cudaSuccess;
}

API cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  Lock lock(mutex);
  Stream* where = stream(handle);
  Capture* capture = where->capture;
  if (!capture)
    return failed(cudaErrorIllegalState);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->owner != std::this_thread::get_id())
    return failed(cudaErrorStreamCaptureWrongThread);
  if (capture->origin != where)
    return failed(cudaErrorStreamCaptureUnmatched);
  where->capture = nullptr;
  for (Stream* other : capture->others)
    other->capture = nullptr;
  captures.erase(capture->id);
  *graph = nullptr;
  if (capture->invalid)
    return failed(cudaErrorStreamCaptureInvalidated);
  if (!capture->parted.empty())
    return failed(cudaErrorStreamCaptureUnjoined);
  captured++;
  last_graph = *capture->graph;
  *graph = (cudaGraph_t)capture->graph;
  return cudaSuccess;
}

API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

DOES_NOTHING(cudaStreamUpdateCaptureDependencies)

// ---- graphs --------------------------------------------------------------------------------------------------------

API cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = ((Graph*)graph)->size();
  return cudaSuccess;
}

API cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete (Graph*)graph;
  return cudaSuccess;
}

API cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = (cudaGraphExec_t) new Graph(*(Graph*)graph);
  return cudaSuccess;
}

API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete (Graph*)executable;
  return cudaSuccess;
}

API cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t handle) {
  Lock lock(mutex);
  launched++;
  return work(stream(handle), "graph");
}

API cudaError_t cudaUserObjectCreate(cudaUserObject_t* object, void*, cudaHostFn_t, unsigned, unsigned) {
  *object = nullptr;
  return cudaSuccess;
}
