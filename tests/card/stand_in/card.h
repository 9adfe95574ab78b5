// A stand-in for a GPU: the CUDA runtime, cuDNN's graph API and cuBLAS as torch calls them, on a machine without a
// card.
//
// Memory is the host's. Kernels compute nothing: they are recorded by name. Streams, events, stream capture and graphs
// follow CUDA's rules, so that what CUDA forbids while a stream is captured fails here with CUDA's own error. What it
// cannot show: values, times, and which kernels cuDNN would choose.
//
// Sources of the rules: CUDA Runtime API, "Stream Management"; CUDA C++ Programming Guide, "Creating a Graph Using
// Stream Capture".
#pragma once
#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

// Functions that a library only has to have: one does nothing and succeeds, one makes a descriptor of which nothing is
// read. They are named by their symbol, as headers declare them with other arguments.
#define DOES_NOTHING(name)                  \
  API int does_nothing_##name() asm(#name); \
  int does_nothing_##name() {               \
    return 0;                               \
  }
#define MAKES_DESCRIPTOR(name)      \
  API int name(void** descriptor) { \
    *descriptor = calloc(1, 256);   \
    return 0;                       \
  }

namespace card {

using Graph = std::vector<std::string>;  // the name of each node

struct Stream;

struct Capture {
  unsigned long long id;
  cudaStreamCaptureMode mode;
  std::thread::id owner;
  Graph* graph;
  Stream* origin;
  std::set<Stream*> others = {};  // that have joined it
  std::set<Stream*> parted = {};  // of them, those whose last work none has waited for
  bool invalid = false;           // something forbidden was asked
};

struct Stream {
  int priority = 0;
  Capture* capture = nullptr;
  size_t works = 0;  // pieces of work that were captured
};

struct Event {
  Capture* capture = nullptr;  // of the stream that it was recorded in
  Stream* where = nullptr;     // that stream
  size_t works = 0;            // of it, until then
};

extern std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

extern std::map<unsigned long long, Capture*> captures;  // under way, by id
extern Stream legacy;                                    // the default stream
extern Graph last_graph;                                 // of the capture that succeeded last
extern size_t captured, launched;                        // captures that succeeded, launches of graphs
extern size_t total_bytes, used_bytes;
extern thread_local cudaError_t last_error;
extern thread_local cudaStreamCaptureMode thread_mode;

// A library such as cuDNN has a runtime of its own: its errors are not the last error of torch's.
struct KeepLastError {
  cudaError_t before = last_error;
  ~KeepLastError() {
    last_error = before;
  }
};

Stream* stream(cudaStream_t handle);

// Records an error as the thread's last one, and returns it.
cudaError_t failed(cudaError_t error);

// Records that something forbidden was asked, which spoils the capture.
cudaError_t forbid(const std::string& what, Capture* capture);

// Whether a call that CUDA holds for potentially unsafe (cudaMalloc, cudaFree, synchronous copies, cudaEventQuery) is
// allowed now, given the captures under way and the thread's mode.
cudaError_t unsafe(const char* what);

// A kernel, copy or fill on a stream: a node of the graph where the stream is captured.
cudaError_t work(Stream* stream, const std::string& name);

}  // namespace card
